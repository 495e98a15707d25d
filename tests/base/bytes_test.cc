#include "transfer/base/bytes.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

TEST(Bytes, AsPeopleWriteThem) {
  EXPECT_EQ(*parse_bytes("0"), 0u);
  EXPECT_EQ(*parse_bytes("12345"), 12345u);
  EXPECT_EQ(*parse_bytes("7B"), 7u);
  EXPECT_EQ(*parse_bytes("64KiB"), 65536u);
  EXPECT_EQ(*parse_bytes("2GiB"), uint64_t{2} << 30);
  EXPECT_EQ(*parse_bytes("3MB"), 3'000'000u);
  EXPECT_EQ(*parse_bytes("1024TiB"), uint64_t{1} << 50);
  EXPECT_EQ(*parse_bytes("2TB"), 2'000'000'000'000u);
}

TEST(Bytes, WhatIsNoSizeIsNamed) {
  for (const char* wrong : {"", "KiB", "4 KiB", "4kib", "-1", "1.5MiB", "1025TiB",
                            "99999999999999999999", "9999999999GiB", "12x"}) {
    const auto parsed = parse_bytes(wrong);
    ASSERT_FALSE(parsed.ok()) << wrong;
    EXPECT_EQ(parsed.status().code(), Code::kInvalidArgument);
    EXPECT_NE(parsed.status().message().find("'" + std::string(wrong) + "'"), std::string::npos);
  }
}

}  // namespace
}  // namespace baton
