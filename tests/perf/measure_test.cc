#include "perf/measure.h"

#include <gtest/gtest.h>

namespace baton::bench {
namespace {

TEST(Measure, Quantiles) {
  const Series series{5, 1, 4, 2, 3};
  EXPECT_EQ(median(series), 3);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(quantile(series, 0.95), 5);
  EXPECT_EQ(quantile(series, 0.2), 1);
  EXPECT_EQ(quantile({7}, 0.99), 7);
}

TEST(Measure, WaysTakeTurnsAndWarmUp) {
  std::string order;
  const auto way = [&](char name) {
    return Way{std::string(1, name), [&order, name]() -> Result<double> {
                 order += name;
                 return static_cast<double>(order.size());
               }};
  };
  Progress progress;
  const auto series = measure({way('a'), way('b')}, 2, progress, 1);
  ASSERT_TRUE(series.ok());
  EXPECT_EQ(order, "abbaab");  // who is first changes, so that nobody always follows the other
  EXPECT_EQ((*series)[0], (Series{4, 5}));
  EXPECT_EQ((*series)[1], (Series{3, 6}));
}

TEST(Measure, AFailedWayIsNamed) {
  Progress progress;
  const auto series = measure(
      {{"broken", []() -> Result<double> { return Status(Code::kChecksum, "wrong bytes"); }}}, 1,
      progress);
  ASSERT_FALSE(series.ok());
  EXPECT_EQ(series.status().code(), Code::kChecksum);
  EXPECT_EQ(series.status().message(), "broken: wrong bytes");
}

}  // namespace
}  // namespace baton::bench
