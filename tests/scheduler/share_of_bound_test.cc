#include "scheduler/share_of_bound.h"

#include <gtest/gtest.h>

namespace baton::scheduler {
namespace {

constexpr uint64_t kMiB = 1u << 20;
// 100 MiB at 100 MiB/s beside 0.5 s of compute in 10 layers: 1.05 s at best.
constexpr HandoffTimes kTimes = {
    .compute_s = 0.5, .taken_s = 1.4, .bytes = 100 * kMiB, .goodput = 100.0 * kMiB, .layers = 10};

HandoffTimes with(auto change) {
  HandoffTimes times = kTimes;
  change(times);
  return times;
}

TEST(ShareOfBound, TheLongerPartAndALayerOfTheOtherOverTheTimeTaken) {
  EXPECT_DOUBLE_EQ(*share_of_bound(kTimes), 1.05 / 1.4);
  EXPECT_DOUBLE_EQ(*share_of_bound(with([](auto& t) { t.compute_s = 1.2; })), 1.3 / 1.4);
  EXPECT_DOUBLE_EQ(*share_of_bound(with([](auto& t) { t.taken_s = 1.05; })), 1.0);
}

TEST(ShareOfBound, UnknownWithoutBytesComputeOrRate) {
  EXPECT_FALSE(share_of_bound(with([](auto& t) { t.bytes = 0; })));
  EXPECT_FALSE(share_of_bound(with([](auto& t) { t.compute_s = 0; })));
  EXPECT_FALSE(share_of_bound(with([](auto& t) { t.goodput = 0; })));
}

TEST(ShareOfBound, AHandoffFasterThanTheRateIsTheBestSeen) {
  EXPECT_EQ(share_of_bound(with([](auto& t) { t.goodput = kMiB; })), 1.0);
  EXPECT_EQ(share_of_bound(with([](auto& t) { t.taken_s = 0.8; })), 1.0);
  EXPECT_EQ(share_of_bound(with([](auto& t) { t.taken_s = 1.02; })), 1.0);
}

TEST(ShareOfBound, ASmallOneFasterThanTheRateSaysNothing) {
  const auto small = [](double taken_s) {
    return with([&](auto& t) {
      t.bytes = kMeasurableBytes - 1;
      t.goodput = kMiB / 2.0;  // 2 s
      t.taken_s = taken_s;
    });
  };
  EXPECT_FALSE(share_of_bound(small(0.1)));
  EXPECT_FALSE(share_of_bound(small(1.9)));
  EXPECT_NEAR(*share_of_bound(small(4.1)), 0.5, 1e-6);
}

TEST(ShareOfBound, ComputeIsPartOfTheTimeTakenWhenTheOfferCameLate) {
  EXPECT_EQ(share_of_bound(with([](auto& t) {
              t.bytes = 1000;
              t.taken_s = 0.499;
            })),
            1.0);
}

TEST(ShareOfBound, NeverAboveOne) {
  for (const double compute : {1e-6, 0.01, 1.0, 30.0})
    for (const double taken : {0.0, 1e-6, 0.01, 1.0, 30.0})
      for (const uint64_t bytes : {uint64_t{1}, kMeasurableBytes, 1000 * kMiB})
        for (const double goodput : {1.0, 1e6, 1e12})
          for (const uint32_t layers : {1u, 32u}) {
            const auto share = share_of_bound({compute, taken, bytes, goodput, layers});
            if (!share) continue;
            EXPECT_GT(*share, 0);
            EXPECT_LE(*share, 1);
          }
}

}  // namespace
}  // namespace baton::scheduler
