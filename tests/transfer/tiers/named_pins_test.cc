#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transfer/tiers/host_tier_fixture.h"

namespace baton {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class NamedPins : public HostTierTest {
 protected:
  Result<ChunkCount> pin(const std::string& name, const std::vector<uint32_t>& numbers, int until) {
    std::vector<ChunkId> ids;
    for (const uint32_t number : numbers) ids.push_back(chunk_id(number));
    return tier_->pin_until(name, ids, at(until));
  }
  static TimePoint at(int second) { return TimePoint{} + seconds(second); }
};

TEST_F(NamedPins, AreKeptUntilTheirTime) {
  make({.max_bytes = 4 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3, 4}) ASSERT_TRUE(insert(number).ok());
  const auto kept = pin("a", {1, 2, 9}, 10);  // 9 is not there
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ(kept->chunks, 2u);
  EXPECT_EQ(kept->bytes, 2 * kSlotBytes);
  EXPECT_EQ(tier_->pinned_bytes(), 2 * kSlotBytes);
  for (const uint32_t number : {5, 6, 7}) ASSERT_TRUE(insert(number).ok());
  EXPECT_THAT(held_of({1, 2, 3, 4, 5, 6, 7}), ElementsAre(1, 2, 6, 7));
  EXPECT_EQ(tier_->expire(at(9)), 0u);
  EXPECT_EQ(tier_->evict(4), 2u);
  EXPECT_EQ(tier_->pin_names(), 1u);
  EXPECT_EQ(tier_->expire(at(10)), 1u);
  EXPECT_EQ(tier_->pin_names(), 0u);
  EXPECT_EQ(tier_->pinned_bytes(), 0u);
  EXPECT_EQ(tier_->evict(4), 2u);
  EXPECT_EQ(slots_in_use(), 0u);
}

TEST_F(NamedPins, ExpireInTheOrderOfTheirTimes) {
  make({.max_bytes = 20 * kSlotBytes});
  for (uint32_t number = 0; number < 10; ++number) ASSERT_TRUE(insert(number).ok());
  for (const uint32_t number : {3, 1, 0, 2, 4})
    ASSERT_TRUE(pin(std::to_string(number), {number}, static_cast<int>(number / 2)).ok());
  EXPECT_EQ(tier_->expire(at(-1)), 0u);
  EXPECT_EQ(tier_->expire(at(0)), 2u);  // 0 and 1
  EXPECT_EQ(tier_->evict(20), 7u);
  EXPECT_THAT(held_of({0, 1, 2, 3, 4}), ElementsAre(2, 3, 4));
  EXPECT_EQ(tier_->expire(at(100)), 3u);
  EXPECT_EQ(tier_->evict(20), 3u);
}

TEST_F(NamedPins, TheSameNameAgainTakesTheOthersPlace) {
  make({.max_bytes = 4 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3, 4}) ASSERT_TRUE(insert(number).ok());
  ASSERT_TRUE(pin("a", {1, 2}, 10).ok());
  ASSERT_TRUE(pin("a", {2, 3}, 20).ok());  // the same half of the tier, not three quarters
  EXPECT_EQ(tier_->pin_names(), 1u);
  EXPECT_EQ(tier_->expire(at(10)), 0u);
  EXPECT_EQ(tier_->evict(4), 2u);
  EXPECT_THAT(held_of({1, 2, 3, 4}), ElementsAre(2, 3));
  EXPECT_TRUE(tier_->unpin("a"));
  EXPECT_FALSE(tier_->unpin("a"));
  EXPECT_EQ(tier_->expire(at(100)), 0u);
  EXPECT_EQ(tier_->evict(4), 2u);
}

TEST_F(NamedPins, AreBounded) {
  make({.max_bytes = 8 * kSlotBytes, .max_pin_names = 2});
  for (uint32_t number = 0; number < 8; ++number) ASSERT_TRUE(insert(number).ok());
  ASSERT_TRUE(pin("a", {0, 1, 2}, 10).ok());
  const auto many = pin("b", {3, 4}, 10);  // half of the tier is the bound
  EXPECT_EQ(many.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(many.status().message(), HasSubstr("128 bytes beside 192 pinned by name are more "
                                                 "than the 256 that may be"));
  EXPECT_EQ(tier_->pinned_bytes(), 3 * kSlotBytes);
  EXPECT_EQ(pin("a", {0, 1, 2, 3, 4}, 20).status().code(), Code::kResourceExhausted);
  EXPECT_EQ(tier_->pinned_bytes(), 3 * kSlotBytes);  // what had the name stays
  ASSERT_TRUE(pin("b", {3}, 10).ok());
  const auto names = pin("c", {}, 10);
  EXPECT_EQ(names.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(names.status().message(), HasSubstr("2 names"));
  EXPECT_EQ(pin("", {1}, 10).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(pin(std::string(257, 'x'), {1}, 10).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(tier_->expire(at(10)), 2u);
  EXPECT_TRUE(pin("c", {4, 5, 6, 7}, 10).ok());
}

TEST_F(NamedPins, WhatIsErasedIsLetGoOfAtOnce) {
  make({.max_bytes = 8 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  ASSERT_TRUE(pin("a", {1, 2}, 10).ok());
  ASSERT_TRUE(pin("b", {2, 3}, 10).ok());
  EXPECT_TRUE(tier_->erase(chunk_id(2)));
  EXPECT_EQ(slots_in_use(), 2u);
  EXPECT_EQ(tier_->clear({}, false).chunks, 2u);
  EXPECT_EQ(slots_in_use(), 0u);
  EXPECT_EQ(tier_->pinned_bytes(), 0u);
  EXPECT_EQ(tier_->pin_names(), 2u);
  // Their bytes count no more.
  for (const uint32_t number : {1, 2, 3, 4}) ASSERT_TRUE(insert(number).ok());
  EXPECT_TRUE(pin("c", {1, 2, 3, 4}, 10).ok());
}

TEST_F(NamedPins, WhatIsReadOutlivesTheNameAndTheTier) {
  make({.max_bytes = 8 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  ASSERT_TRUE(insert(2).ok());
  ASSERT_TRUE(pin("a", {1, 2}, 10).ok());
  auto reading = tier_->find(chunk_id(1));
  EXPECT_EQ(tier_->expire(at(10)), 1u);
  EXPECT_EQ(tier_->evict(8), 1u);
  EXPECT_THAT(held_of({1, 2}), ElementsAre(1));
  ASSERT_TRUE(pin("a", {1}, 10).ok());
  tier_.reset();
  EXPECT_EQ(slots_in_use(), 1u);
  reading.reset();
  EXPECT_EQ(slots_in_use(), 0u);
}

TEST_F(NamedPins, TheEndOfWhatIsLetGoOfLeavesFirst) {
  make({.max_bytes = 8 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  ASSERT_TRUE(pin("a", {1, 2, 3}, 10).ok());
  EXPECT_TRUE(tier_->unpin("a"));
  EXPECT_EQ(tier_->evict(2), 2u);
  EXPECT_THAT(held_of({1, 2, 3}), ElementsAre(1));
}

}  // namespace
}  // namespace baton
