#include "transfer/handoff_registry.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

using protocol::End;

HandoffAttempt attempt(uint32_t n) {
  HandoffAttempt handoff;
  handoff.id.bytes[15] = static_cast<uint8_t>(n);
  handoff.attempt = n;
  return handoff;
}

TEST(HandoffRegistryTest, ClaimsAnAttemptOnceARole) {
  HandoffRegistry registry(8, std::chrono::seconds(60));
  const TimePoint t{};
  EXPECT_TRUE(registry.claim(HandoffRole::kSender, attempt(1), t).ok());
  EXPECT_EQ(registry.claim(HandoffRole::kSender, attempt(1), t).code(), Code::kExists);
  EXPECT_TRUE(registry.claim(HandoffRole::kReceiver, attempt(1), t).ok());
  EXPECT_TRUE(registry.claim(HandoffRole::kHolder, attempt(1), t).ok());
  EXPECT_TRUE(registry.claim(HandoffRole::kSender, attempt(2), t).ok());
  EXPECT_EQ(registry.live(), 4u);
}

TEST(HandoffRegistryTest, AnEndedAttemptIsRefusedByNameUntilItsTombstoneIsOld) {
  HandoffRegistry registry(8, std::chrono::seconds(60));
  const TimePoint t{};
  ASSERT_TRUE(registry.claim(HandoffRole::kReceiver, attempt(1), t).ok());
  registry.bury(HandoffRole::kReceiver, attempt(1), End::kCancelled, t);
  registry.release(HandoffRole::kReceiver, attempt(1));
  const Status refused =
      registry.claim(HandoffRole::kReceiver, attempt(1), t + std::chrono::seconds(59));
  EXPECT_EQ(refused.code(), Code::kRefused);
  EXPECT_NE(refused.message().find("cancelled"), std::string::npos);
  EXPECT_EQ(registry.tombstone(HandoffRole::kReceiver, attempt(1), t), End::kCancelled);
  EXPECT_EQ(registry.tombstone(HandoffRole::kSender, attempt(1), t), std::nullopt);
  const TimePoint later = t + std::chrono::seconds(60);
  EXPECT_EQ(registry.tombstone(HandoffRole::kReceiver, attempt(1), later), std::nullopt);
  EXPECT_TRUE(registry.claim(HandoffRole::kReceiver, attempt(1), later).ok());
}

TEST(HandoffRegistryTest, ATombstoneWithoutAClaimLeavesTheClaimOfAnotherRoleAlone) {
  HandoffRegistry registry(8, std::chrono::seconds(60));
  const TimePoint t{};
  ASSERT_TRUE(registry.claim(HandoffRole::kSender, attempt(1), t).ok());
  registry.bury(HandoffRole::kReceiver, attempt(1), End::kFailed, t);
  EXPECT_EQ(registry.live(), 1u);
  EXPECT_EQ(registry.claim(HandoffRole::kReceiver, attempt(1), t).code(), Code::kRefused);
}

TEST(HandoffRegistryTest, LiveOnesAreBoundedOverAllRoles) {
  HandoffRegistry registry(2, std::chrono::seconds(60));
  const TimePoint t{};
  ASSERT_TRUE(registry.claim(HandoffRole::kSender, attempt(1), t).ok());
  ASSERT_TRUE(registry.claim(HandoffRole::kReceiver, attempt(2), t).ok());
  const Status full = registry.claim(HandoffRole::kSender, attempt(3), t);
  EXPECT_EQ(full.code(), Code::kResourceExhausted);
  EXPECT_TRUE(full.retryable());
  registry.bury(HandoffRole::kSender, attempt(1), End::kCommitted, t);
  EXPECT_EQ(registry.claim(HandoffRole::kSender, attempt(3), t).code(), Code::kResourceExhausted);
  registry.release(HandoffRole::kSender, attempt(1));
  EXPECT_TRUE(registry.claim(HandoffRole::kSender, attempt(3), t).ok());
}

TEST(HandoffRegistryTest, TombstonesAreBoundedTheOldestGoFirst) {
  HandoffRegistry registry(8, std::chrono::seconds(60), 3);
  const TimePoint t{};
  for (uint32_t n = 1; n <= 5; ++n)
    registry.bury(HandoffRole::kSender, attempt(n), End::kFailed, t);
  for (uint32_t n = 1; n <= 5; ++n)
    EXPECT_EQ(registry.tombstone(HandoffRole::kSender, attempt(n), t).has_value(), n > 2) << n;
}

TEST(HandoffRegistryTest, AnAttemptIsNotClaimedAgainWhileSomethingOfItIsLeft) {
  HandoffRegistry registry(8, std::chrono::seconds(60));
  const TimePoint t{};
  ASSERT_TRUE(registry.claim(HandoffRole::kReceiver, attempt(1), t).ok());
  registry.bury(HandoffRole::kReceiver, attempt(1), End::kExpired, t);
  const TimePoint later = t + std::chrono::hours(1);
  EXPECT_EQ(registry.claim(HandoffRole::kReceiver, attempt(1), later).code(), Code::kExists);
  registry.release(HandoffRole::kReceiver, attempt(1));
  EXPECT_TRUE(registry.claim(HandoffRole::kReceiver, attempt(1), later).ok());
}

TEST(HandoffRegistryTest, TakesNothingOnceClosed) {
  HandoffRegistry registry(8, std::chrono::seconds(60));
  registry.close();
  EXPECT_EQ(registry.claim(HandoffRole::kSender, attempt(1), {}).code(), Code::kUnavailable);
}

}  // namespace
}  // namespace baton
