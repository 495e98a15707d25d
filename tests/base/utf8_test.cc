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

TEST(Utf8Test, CutsBetweenCharacters) {
  EXPECT_EQ(cut_utf8("short", 5), "short");
  EXPECT_EQ(cut_utf8("longer", 5), "longe");
  const std::string_view text = "aé€😀z";  // of 1, 2, 3, 4 and 1 bytes
  const size_t ends[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (size_t bytes = 0; bytes < std::size(ends); ++bytes)
    EXPECT_EQ(cut_utf8(text, bytes), text.substr(0, ends[bytes])) << bytes;
  // What is no UTF-8 is neither read beyond its bounds nor cut to nothing.
  EXPECT_EQ(cut_utf8(std::string(9, '\x80'), 8).size(), 8u);
  EXPECT_EQ(cut_utf8("\x80\x80", 1), "\x80");
  EXPECT_EQ(cut_utf8("\xff\xff\xff", 2), "\xff\xff");
}

}  // namespace
}  // namespace baton
