#include "scheduler/pairing.h"

#include <gtest/gtest.h>

#include <vector>

namespace baton::scheduler {
namespace {

constexpr auto kRoundRobin = PairingPolicy::kRoundRobin;
constexpr auto kLeastLoaded = PairingPolicy::kLeastLoaded;

TEST(Pairing, RoundRobinVisitsEveryUsableInstance) {
  const std::vector<Instance> four = {
      {.id = 10}, {.id = 11, .healthy = false}, {.id = 12}, {.id = 13, .healthy = false}};
  std::vector<InstanceId> seen;
  for (uint64_t turn = 0; turn < 4; ++turn) {
    seen.push_back(*choose_instance(kRoundRobin, Role::kDecode, four, turn));
  }
  EXPECT_EQ(seen, (std::vector<InstanceId>{10, 12, 10, 12}));
}

TEST(Pairing, LeastLoadedLooksAtWhatTheRoleSpends) {
  const std::vector<Instance> two = {
      {.id = 1, .inflight_requests = 1, .inflight_tokens = 5000},
      {.id = 2, .inflight_requests = 9, .inflight_tokens = 100},
  };
  for (uint64_t turn = 0; turn < 5; ++turn) {
    EXPECT_EQ(choose_instance(kLeastLoaded, Role::kPrefill, two, turn), 2u);
    EXPECT_EQ(choose_instance(kLeastLoaded, Role::kDecode, two, turn), 1u);
  }
}

TEST(Pairing, EquallyLoadedInstancesTakeTurns) {
  const std::vector<Instance> three = {{.id = 0, .inflight_requests = 1}, {.id = 1}, {.id = 2}};
  EXPECT_EQ(choose_instance(kLeastLoaded, Role::kDecode, three, 0), 1u);
  EXPECT_EQ(choose_instance(kLeastLoaded, Role::kDecode, three, 1), 1u);
  EXPECT_EQ(choose_instance(kLeastLoaded, Role::kDecode, three, 2), 2u);
  EXPECT_EQ(choose_instance(kLeastLoaded, Role::kDecode, three, 2), 2u) << "deterministic";
}

TEST(Pairing, ARetryExcludesWhatFailed) {
  const std::vector<Instance> two = {{.id = 4}, {.id = 7, .inflight_requests = 100}};
  const std::vector<InstanceId> failed = {4};
  for (const auto policy : {kRoundRobin, kLeastLoaded}) {
    EXPECT_EQ(choose_instance(policy, Role::kDecode, two, 0, failed), 7u);
    EXPECT_EQ(choose_instance(policy, Role::kDecode, two, 0, std::vector<InstanceId>{4, 7}),
              std::nullopt);
  }
}

TEST(Pairing, APairNeedsADecoderOnly) {
  const std::vector<Instance> up = {{.id = 3}};
  const std::vector<Instance> down = {{.id = 5, .healthy = false}};
  const auto both = choose_pair(kRoundRobin, up, up, 0);
  ASSERT_TRUE(both);
  EXPECT_EQ(both->prefiller, 3u);
  EXPECT_EQ(both->decoder, 3u);
  const auto alone = choose_pair(kLeastLoaded, down, up, 0);
  ASSERT_TRUE(alone);
  EXPECT_EQ(alone->prefiller, std::nullopt);
  EXPECT_FALSE(choose_pair(kLeastLoaded, up, down, 0));
  EXPECT_FALSE(choose_pair(kRoundRobin, up, {}, 0));
}

TEST(Pairing, NamesOfPolicies) {
  EXPECT_EQ(*parse_pairing_policy("round_robin"), kRoundRobin);
  EXPECT_EQ(*parse_pairing_policy("least_loaded"), kLeastLoaded);
  EXPECT_EQ(parse_pairing_policy("fastest").status().message(),
            "'fastest': expected round_robin or least_loaded");
}

}  // namespace
}  // namespace baton::scheduler
