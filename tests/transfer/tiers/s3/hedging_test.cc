#include "transfer/tiers/s3/hedging.h"

#include <gtest/gtest.h>

namespace baton::s3 {
namespace {

using std::chrono::milliseconds;

TEST(Hedging, WaitsForLongerThanNearlyAllOthersTook) {
  Hedging hedging(0.05, milliseconds(1));
  for (int i = 0; i < 15; ++i) hedging.answered(milliseconds(10));
  EXPECT_FALSE(hedging.delay().has_value());  // too few to tell
  for (int i = 15; i < 100; ++i) hedging.answered(milliseconds(i < 96 ? 10 : 500));
  EXPECT_EQ(hedging.delay(), milliseconds(10));
  for (int i = 0; i < 10; ++i) hedging.answered(milliseconds(700));
  EXPECT_EQ(hedging.delay(), milliseconds(700));
  // Only the recent ones count.
  for (size_t i = 0; i < Hedging::kSamples; ++i) hedging.answered(milliseconds(20));
  EXPECT_EQ(hedging.delay(), milliseconds(20));
}

TEST(Hedging, NeverSoonerThanTheLeastNorWhereItIsOff) {
  Hedging hedging(0.05, milliseconds(50));
  for (int i = 0; i < 50; ++i) hedging.answered(milliseconds(2));
  EXPECT_EQ(hedging.delay(), milliseconds(50));
  Hedging off(0, milliseconds(50));
  for (int i = 0; i < 50; ++i) off.answered(milliseconds(2));
  EXPECT_FALSE(off.delay().has_value());
}

TEST(Hedging, IsAShareOfAll) {
  Hedging hedging(0.1, milliseconds(1));
  int taken = 0;
  for (int i = 0; i < 1000; ++i) {
    hedging.began();
    if (!hedging.may()) continue;
    hedging.take();
    ++taken;
  }
  EXPECT_GE(taken, 99);
  EXPECT_LE(taken, 101);
  // What is saved in quiet times is little.
  for (int i = 0; i < 1000; ++i) hedging.began();
  taken = 0;
  for (; hedging.may(); ++taken) hedging.take();
  EXPECT_EQ(taken, Hedging::kMaxSaved);
}

}  // namespace
}  // namespace baton::s3
