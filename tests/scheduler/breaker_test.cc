#include "scheduler/breaker.h"

#include <gtest/gtest.h>

namespace baton::scheduler {
namespace {

using std::chrono::seconds;
using State = Breaker::State;

constexpr Breaker::Config kConfig{.failures = 3, .pause = seconds(1), .max_pause = seconds(3)};
constexpr TimePoint kStart{seconds(100)};

Breaker opened() {
  Breaker breaker(kConfig);
  for (int i = 0; i < 3; ++i) breaker.failed(kStart);
  return breaker;
}

TEST(Breaker, OpensAfterFailuresInARow) {
  Breaker breaker(kConfig);
  breaker.failed(kStart);
  breaker.failed(kStart);
  breaker.succeeded();
  breaker.failed(kStart);
  breaker.failed(kStart);
  EXPECT_EQ(breaker.state(kStart), State::kClosed);
  EXPECT_TRUE(breaker.allows(kStart));
  breaker.failed(kStart);
  EXPECT_EQ(breaker.state(kStart), State::kOpen);
  EXPECT_FALSE(breaker.allows(kStart));
}

TEST(Breaker, AfterThePauseOneTrialAPause) {
  Breaker breaker = opened();
  EXPECT_FALSE(breaker.allows(kStart + seconds(1) - Duration(1)));
  EXPECT_EQ(breaker.state(kStart + seconds(1)), State::kHalfOpen);
  EXPECT_TRUE(breaker.allows(kStart + seconds(1)));
  EXPECT_FALSE(breaker.allows(kStart + seconds(1)));
  // Its outcome was never told.
  EXPECT_TRUE(breaker.allows(kStart + seconds(2)));
}

TEST(Breaker, ATrialThatSucceedsClosesIt) {
  Breaker breaker = opened();
  ASSERT_TRUE(breaker.allows(kStart + seconds(1)));
  breaker.succeeded();
  EXPECT_EQ(breaker.state(kStart + seconds(1)), State::kClosed);
  // And the count of failures begins anew.
  breaker.failed(kStart + seconds(1));
  EXPECT_TRUE(breaker.allows(kStart + seconds(1)));
}

TEST(Breaker, ThePauseDoublesUpToItsBoundAndIsShortAgainAfterASuccess) {
  Breaker breaker = opened();
  TimePoint at = kStart;
  for (const int pause : {1, 2, 3, 3}) {
    EXPECT_FALSE(breaker.allows(at + seconds(pause) - Duration(1))) << pause;
    at += seconds(pause);
    ASSERT_TRUE(breaker.allows(at)) << pause;
    breaker.failed(at);
  }
  breaker.succeeded();
  for (int i = 0; i < 3; ++i) breaker.failed(at);
  EXPECT_TRUE(breaker.allows(at + seconds(1)));
}

TEST(Breaker, FailuresOfWhatWasBegunBeforeItOpenedDoNotLengthenThePause) {
  Breaker breaker = opened();
  for (int i = 0; i < 30; ++i) breaker.failed(kStart);
  EXPECT_FALSE(breaker.allows(kStart + seconds(1) - Duration(1)));
  ASSERT_TRUE(breaker.allows(kStart + seconds(1)));
  // Of these one is the trial's.
  for (int i = 0; i < 30; ++i) breaker.failed(kStart + seconds(1));
  EXPECT_FALSE(breaker.allows(kStart + seconds(3) - Duration(1)));
  EXPECT_TRUE(breaker.allows(kStart + seconds(3)));
}

}  // namespace
}  // namespace baton::scheduler
