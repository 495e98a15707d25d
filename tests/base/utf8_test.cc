#include "transfer/base/utf8.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

TEST(Utf8Test, AcceptsCharactersAndNothingElse) {
  for (const char* good : {"", "a", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000",
                           "\uffff", "\U00010000", "\U0010ffff"}) {
    EXPECT_FALSE(find_invalid_utf8(good).has_value()) << good;
  }
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe6\x97", "\xf0\x9f\x91"}) {
    EXPECT_EQ(find_invalid_utf8(bad), 0u) << bad;
  }
}

}  // namespace
}  // namespace baton
