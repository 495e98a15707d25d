#include "transfer/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace baton {
namespace {

Result<int> half(int x) {
  if (x % 2 != 0) return Status(Code::kInvalidArgument, "odd: " + std::to_string(x));
  return x / 2;
}

Result<int> quarter(int x) {
  BATON_ASSIGN_OR_RETURN(const int h, half(x));
  return half(h);
}

TEST(Status, NamesCodeAndMessage) {
  EXPECT_EQ(Status().to_string(), "ok");
  EXPECT_EQ(Status(Code::kRefused, "no").to_string(), "refused: no");
  EXPECT_EQ(Status::from_errno("open", ENOENT).native(), ENOENT);
  EXPECT_TRUE(Status(Code::kUnavailable, "").retryable());
  EXPECT_FALSE(Status(Code::kProtocol, "").retryable());
}

TEST(Result, CarriesValueOrError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).status().message(), "odd: 3");
  EXPECT_EQ(quarter(3).status().message(), "odd: 3");
  Result<std::unique_ptr<int>> moved = std::make_unique<int>(7);
  EXPECT_EQ(*std::move(moved).value(), 7);
}

TEST(ResultDeathTest, ValueOfAnErrorIsABrokenInvariant) {
  EXPECT_DEATH((void)half(3).value(), "odd: 3");
}

}  // namespace
}  // namespace baton
