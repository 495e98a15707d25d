#include "transfer/control/liveness.h"

#include <gtest/gtest.h>

namespace baton::control {
namespace {

using namespace std::chrono_literals;

constexpr Duration kInterval = 200ms;
const TimePoint kStart = TimePoint(1000s);

TEST(Liveness, StallsAfterSoManyIntervalsOfSilence) {
  Liveness liveness(kStart, kInterval, 4);
  EXPECT_EQ(liveness.stalls_at(), kStart + 800ms);
  EXPECT_FALSE(liveness.judge(kStart + 799ms).stalls);
  EXPECT_TRUE(liveness.judge(kStart + 800ms).stalls);
  liveness.set_stalled();
  EXPECT_FALSE(liveness.judge(kStart + 900ms).stalls);  // once
}

TEST(Liveness, AnyFrameEndsAStallOnce) {
  Liveness liveness(kStart, kInterval, 4);
  EXPECT_FALSE(liveness.heard(kStart + 100ms));
  liveness.set_stalled();
  EXPECT_TRUE(liveness.heard(kStart + 1s));
  EXPECT_FALSE(liveness.heard(kStart + 1s));
  EXPECT_FALSE(liveness.judge(kStart + 1799ms).stalls);
  EXPECT_TRUE(liveness.judge(kStart + 1800ms).stalls);
}

TEST(Liveness, CountsEachMissedHeartbeatOnce) {
  Liveness liveness(kStart, kInterval, 4);
  EXPECT_EQ(liveness.judge(kStart + 399ms).newly_missed, 0u);  // late, not missed
  EXPECT_EQ(liveness.judge(kStart + 400ms).newly_missed, 1u);
  EXPECT_EQ(liveness.judge(kStart + 500ms).newly_missed, 0u);
  EXPECT_EQ(liveness.judge(kStart + 1000ms).newly_missed, 3u);
  liveness.heard(kStart + 1001ms);
  EXPECT_EQ(liveness.judge(kStart + 1401ms).newly_missed, 1u);
}

TEST(Liveness, OurOwnAbsenceIsNotThePeersSilence) {
  Liveness liveness(kStart, kInterval, 4);
  const TimePoint back = kStart + 60s;
  liveness.excuse(back, 60s - 100ms);
  EXPECT_FALSE(liveness.judge(back).stalls);
  EXPECT_EQ(liveness.stalls_at(), back - 100ms + 800ms);
  liveness.excuse(back, 60s);  // never into the future
  EXPECT_EQ(liveness.stalls_at(), back + 800ms);
}

}  // namespace
}  // namespace baton::control
