#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <type_traits>
#include <unordered_set>

#include "tests/transfer/tiers/host_tier_fixture.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

TEST_F(HostTierTest, FindsWhatWasInserted) {
  make({.max_bytes = 10 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  const auto pin = tier_->find(chunk_id(1));
  ASSERT_TRUE(pin.has_value());
  EXPECT_EQ(pin->chunk().id, chunk_id(1));
  EXPECT_EQ(pin->chunk().tokens, 4u);
  EXPECT_EQ(pin->chunk().checksums, std::vector<Checksum>{Checksum{7}});
  EXPECT_EQ(pin->chunk().slot.bytes()[kSlotBytes - 1], std::byte{1});
  EXPECT_FALSE(tier_->find(chunk_id(2)).has_value());
  EXPECT_EQ(tier_->entries(), 1u);
  EXPECT_EQ(tier_->bytes(), kSlotBytes);
}

TEST_F(HostTierTest, GroupsStandBesideTheKey) {
  make({.max_bytes = 10 * kSlotBytes});
  ASSERT_TRUE(tier_->insert(chunk(chunk_id(1, 0, 0))).ok());
  ASSERT_TRUE(tier_->insert(chunk(chunk_id(1, 0, 1))).ok());
  ASSERT_TRUE(tier_->insert(chunk(chunk_id(1, 1, 0))).ok());
  EXPECT_EQ(tier_->entries(), 3u);
  EXPECT_FALSE(tier_->contains(chunk_id(1, 1, 1)));
}

TEST_F(HostTierTest, LeadingCountsUpToTheFirstGap) {
  make({.max_bytes = 10 * kSlotBytes});
  for (const uint32_t number : {1, 2, 4}) ASSERT_TRUE(insert(number).ok());
  std::vector<ChunkKey> keys;
  for (const uint32_t number : {1, 2, 3, 4}) keys.push_back(chunk_id(number).key);
  EXPECT_EQ(tier_->leading(keys, 0, 0), 2u);
  EXPECT_EQ(tier_->leading(std::span(keys).first(1), 0, 0), 1u);
  EXPECT_EQ(tier_->leading(std::span(keys).subspan(2), 0, 0), 0u);
  EXPECT_EQ(tier_->leading({}, 0, 0), 0u);
  EXPECT_EQ(tier_->leading(keys, 0, 1), 0u);
}

TEST_F(HostTierTest, TheOlderOfTwoEqualChunksStays) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  const SlotId first = tier_->find(chunk_id(1))->chunk().slot.id();
  ASSERT_TRUE(insert(2).ok());
  EXPECT_EQ(insert(1).code(), Code::kExists);
  EXPECT_EQ(tier_->find(chunk_id(1))->chunk().slot.id(), first);
  EXPECT_EQ(tier_->entries(), 2u);
  EXPECT_EQ(slots_in_use(), 2u);
}

TEST_F(HostTierTest, InsertingAgainCountsAsUse) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  ASSERT_TRUE(insert(2).ok());
  EXPECT_EQ(insert(1).code(), Code::kExists);
  ASSERT_TRUE(insert(3).ok());
  EXPECT_TRUE(held(1));
  EXPECT_FALSE(held(2));
}

TEST_F(HostTierTest, TheLeastRecentlyUsedLeavesFirst) {
  make({.max_bytes = 3 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  ASSERT_TRUE(tier_->find(chunk_id(1)).has_value());
  ASSERT_TRUE(insert(4).ok());
  EXPECT_TRUE(held(1));
  EXPECT_FALSE(held(2));
  ASSERT_TRUE(insert(5).ok());
  EXPECT_FALSE(held(3));
  EXPECT_EQ(tier_->entries(), 3u);
  EXPECT_EQ(tier_->bytes(), 3 * kSlotBytes);
  EXPECT_EQ(slots_in_use(), 3u);
}

TEST_F(HostTierTest, AskingWhetherItIsThereIsNoUse) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  ASSERT_TRUE(insert(2).ok());
  EXPECT_TRUE(held(1));
  EXPECT_EQ(tier_->leading(std::vector<ChunkKey>{chunk_id(1).key}, 0, 0), 1u);
  ASSERT_TRUE(insert(3).ok());
  EXPECT_FALSE(held(1));
}

TEST_F(HostTierTest, PinnedChunksStay) {
  make({.max_bytes = 3 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  auto pin = tier_->find(chunk_id(1));
  auto again = tier_->find(chunk_id(1));
  EXPECT_EQ(tier_->pinned_bytes(), kSlotBytes);
  for (const uint32_t number : {4, 5, 6}) ASSERT_TRUE(insert(number).ok());
  EXPECT_TRUE(held(1));
  EXPECT_EQ(tier_->evict(10), 2u);
  EXPECT_EQ(tier_->entries(), 1u);
  pin.reset();
  EXPECT_EQ(tier_->evict(10), 0u);
  EXPECT_EQ(again->chunk().slot.bytes()[0], std::byte{1});
  again.reset();
  EXPECT_EQ(tier_->pinned_bytes(), 0u);
  EXPECT_EQ(tier_->evict(10), 1u);
  EXPECT_EQ(slots_in_use(), 0u);
}

TEST_F(HostTierTest, LettingGoOfAPinCountsAsUse) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  auto pin = tier_->find(chunk_id(1));
  ASSERT_TRUE(insert(2).ok());
  pin.reset();
  ASSERT_TRUE(insert(3).ok());
  EXPECT_TRUE(held(1));
  EXPECT_FALSE(held(2));
}

TEST_F(HostTierTest, PinsMove) {
  static_assert(!std::is_copy_constructible_v<HostTier::Pin>);
  static_assert(!std::is_copy_assignable_v<HostTier::Pin>);
  static_assert(std::is_nothrow_move_constructible_v<HostTier::Pin>);
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  ASSERT_TRUE(insert(2).ok());
  HostTier::Pin first = *tier_->find(chunk_id(1));
  HostTier::Pin second = *tier_->find(chunk_id(2));
  EXPECT_EQ(tier_->pinned_bytes(), 2 * kSlotBytes);
  first = std::move(second);  // lets go of 1
  EXPECT_FALSE(second);       // NOLINT: what a moved-from pin is, is part of the contract
  EXPECT_EQ(first.chunk().id, chunk_id(2));
  EXPECT_EQ(tier_->pinned_bytes(), kSlotBytes);
  HostTier::Pin& same = first;
  first = std::move(same);
  EXPECT_TRUE(first);
  first.reset();
  first.reset();
  EXPECT_EQ(tier_->pinned_bytes(), 0u);
}

TEST_F(HostTierTest, WhatPinsLeaveNoRoomForIsRefusedAndNothingLeaves) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  ASSERT_TRUE(insert(2).ok());
  const auto one = tier_->find(chunk_id(1));
  {
    const auto two = tier_->find(chunk_id(2));
    const Status status = insert(3);
    EXPECT_EQ(status.code(), Code::kResourceExhausted);
    EXPECT_THAT(status.message(), HasSubstr("128 of 128 bytes"));
    EXPECT_TRUE(status.retryable());
    EXPECT_TRUE(held(1) && held(2));
  }
  EXPECT_TRUE(insert(3).ok());
  EXPECT_TRUE(held(1));
  EXPECT_FALSE(held(2));
}

TEST_F(HostTierTest, LargerThanTheBoundIsRefusedAndNothingLeaves) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  auto arena = Arena::create({.bytes = 4096});
  ASSERT_TRUE(arena.ok());
  auto large = SlotPool::create(std::move(arena).value(), 3 * kSlotBytes);
  ASSERT_TRUE(large.ok());
  Chunk chunk{.id = chunk_id(2)};
  chunk.slot = *(*large)->allocate();
  EXPECT_EQ(tier_->insert(chunk).code(), Code::kResourceExhausted);
  EXPECT_TRUE(held(1));
}

TEST_F(HostTierTest, ALargeChunkTakesTheRoomOfSeveral) {
  make({.max_bytes = 4 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3, 4}) ASSERT_TRUE(insert(number).ok());
  auto arena = Arena::create({.bytes = 4096});
  ASSERT_TRUE(arena.ok());
  auto large = SlotPool::create(std::move(arena).value(), 3 * kSlotBytes);
  ASSERT_TRUE(large.ok());
  Chunk chunk{.id = chunk_id(5)};
  chunk.slot = *(*large)->allocate();
  ASSERT_TRUE(tier_->insert(std::move(chunk)).ok());
  EXPECT_EQ(tier_->entries(), 2u);
  EXPECT_TRUE(held(4) && held(5));
  EXPECT_EQ(tier_->bytes(), 4 * kSlotBytes);
}

TEST_F(HostTierTest, EntriesHaveABoundToo) {
  make({.max_bytes = SIZE_MAX, .max_entries = 2});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  EXPECT_EQ(tier_->entries(), 2u);
  EXPECT_FALSE(held(1));
  const auto two = tier_->find(chunk_id(2));
  const auto three = tier_->find(chunk_id(3));
  const Status status = insert(4);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("2 of 2 chunks"));
}

TEST_F(HostTierTest, WithoutBytesItKeepsNothing) {
  make({.max_bytes = 0});
  EXPECT_EQ(insert(1).code(), Code::kResourceExhausted);
  EXPECT_EQ(tier_->entries(), 0u);
  EXPECT_EQ(slots_in_use(), 0u);
}

TEST_F(HostTierTest, AChunkBeingSentOutlivesItsEviction) {
  make({.max_bytes = kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  const SlotRef sending = tier_->find(chunk_id(1))->chunk().slot;
  ASSERT_TRUE(insert(2).ok());
  EXPECT_FALSE(held(1));
  EXPECT_EQ(sending.bytes()[0], std::byte{1});
  EXPECT_EQ(slots_in_use(), 2u);
}

TEST_F(HostTierTest, EraseLetsGoOfTheSlot) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  EXPECT_TRUE(tier_->erase(chunk_id(1)));
  EXPECT_FALSE(tier_->erase(chunk_id(1)));
  EXPECT_FALSE(held(1));
  EXPECT_EQ(tier_->bytes(), 0u);
  EXPECT_EQ(slots_in_use(), 0u);
  EXPECT_TRUE(insert(1).ok());
}

TEST_F(HostTierTest, AnErasedChunkThatIsPinnedIsFoundNoMoreAndItsSlotGoesWithTheLastPin) {
  make({.max_bytes = 2 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  auto pin = tier_->find(chunk_id(1));
  auto again = tier_->find(chunk_id(1));
  const SlotId slot = pin->chunk().slot.id();
  EXPECT_TRUE(tier_->erase(chunk_id(1)));
  EXPECT_FALSE(tier_->erase(chunk_id(1)));
  EXPECT_FALSE(held(1));
  EXPECT_EQ(tier_->bytes(), 0u);
  EXPECT_EQ(tier_->pinned_bytes(), 0u);
  EXPECT_THAT(metrics_.text(), HasSubstr("baton_tier_chunks{tier=\"host\"} 0"));
  // Another under the same key is another chunk.
  ASSERT_TRUE(insert(1).ok());
  EXPECT_FALSE(tier_->erase(chunk_id(1), slot));
  EXPECT_EQ(tier_->pin(chunk_id(1))->chunk().slot.bytes()[0], std::byte{1});
  pin.reset();
  EXPECT_EQ(again->chunk().slot.bytes()[0], std::byte{1});
  EXPECT_EQ(slots_in_use(), 2u);
  again.reset();
  EXPECT_EQ(slots_in_use(), 1u);
  EXPECT_TRUE(held(1));
  // The tier may go first.
  pin = tier_->find(chunk_id(1));
  EXPECT_TRUE(tier_->erase(chunk_id(1), pin->chunk().slot.id()));
  tier_.reset();
  EXPECT_EQ(slots_in_use(), 1u);
  pin.reset();
  EXPECT_EQ(slots_in_use(), 0u);
}

TEST_F(HostTierTest, ClearLetsGoOfAllAndPinnedOnesGoWithTheirLastPin) {
  make({.max_bytes = 4 * kSlotBytes});
  EXPECT_EQ(tier_->clear({}, false).chunks, 0u);
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  auto pin = tier_->find(chunk_id(2));
  EXPECT_EQ(tier_->clear({}, false).chunks, 3u);
  for (const uint32_t number : {1, 2, 3}) EXPECT_FALSE(held(number));
  EXPECT_EQ(tier_->bytes() + tier_->pinned_bytes() + tier_->entries(), 0u);
  EXPECT_THAT(metrics_.text(), HasSubstr("baton_tier_chunks{tier=\"host\"} 0"));
  EXPECT_EQ(slots_in_use(), 1u);
  ASSERT_TRUE(insert(2).ok());  // computed anew meanwhile
  EXPECT_EQ(pin->chunk().slot.bytes()[0], std::byte{2});
  pin.reset();
  EXPECT_TRUE(held(2));
  EXPECT_EQ(slots_in_use(), 1u);
}

TEST_F(HostTierTest, ItsEndLetsGoOfAllSlots) {
  make({.max_bytes = 10 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  tier_.reset();
  EXPECT_EQ(slots_in_use(), 0u);
  EXPECT_THAT(metrics_.text(), HasSubstr("baton_tier_bytes{tier=\"host\"} 0"));
}

TEST_F(HostTierTest, MetricsTellWhatHappened) {
  make({.max_bytes = 2 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  ASSERT_TRUE(tier_->find(chunk_id(3)).has_value());
  ASSERT_FALSE(tier_->find(chunk_id(1)).has_value());
  ASSERT_FALSE(tier_->find(chunk_id(9)).has_value());
  const std::string text = metrics_.text();
  EXPECT_THAT(text, HasSubstr("baton_tier_bytes{tier=\"host\"} 128"));
  EXPECT_THAT(text, HasSubstr("baton_tier_chunks{tier=\"host\"} 2"));
  EXPECT_THAT(text, HasSubstr("baton_tier_evictions_total{tier=\"host\"} 1"));
  EXPECT_THAT(text, HasSubstr("baton_tier_lookups_total{result=\"hit\",tier=\"host\"} 1"));
  EXPECT_THAT(text, HasSubstr("baton_tier_lookups_total{result=\"miss\",tier=\"host\"} 2"));
}

// A handler that an event loop drops at shutdown may be the last to hold a pin.
TEST_F(HostTierTest, APinOutlivesTheTierAndItsPool) {
  make({.max_bytes = 3 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert(number).ok());
  auto pin = tier_->find(chunk_id(1));
  auto again = tier_->find(chunk_id(1));
  auto other = tier_->find(chunk_id(2));
  tier_.reset();
  EXPECT_EQ(slots_in_use(), 2u);
  other.reset();
  EXPECT_EQ(slots_in_use(), 1u);
  const std::weak_ptr<SlotPool> pool = pool_;
  pool_.reset();
  pin.reset();
  EXPECT_EQ(again->chunk().slot.bytes()[kSlotBytes - 1], std::byte{1});
  again.reset();
  EXPECT_TRUE(pool.expired());
}

// Random operations against a plain list in order of use.
TEST_F(HostTierTest, BehavesLikeAListInOrderOfUse) {
  constexpr size_t kRoom = 8;
  make({.max_bytes = kRoom * kSlotBytes});
  std::mt19937 random(20240611);
  std::deque<uint32_t> order;  // held and unpinned, oldest first
  std::deque<std::pair<uint32_t, HostTier::Pin>> pins;
  std::deque<std::vector<HostTier::Pin>> erased;  // those of a chunk that was erased
  const auto forget = [&](uint32_t number) {
    const auto at = std::find(order.begin(), order.end(), number);
    if (at == order.end()) return false;
    order.erase(at);
    return true;
  };
  const auto pinned = [&](uint32_t number) {
    return std::any_of(pins.begin(), pins.end(), [&](auto& p) { return p.first == number; });
  };
  const auto distinct_pinned = [&] {
    std::unordered_set<uint32_t> numbers;
    for (const auto& pin : pins) numbers.insert(pin.first);
    return numbers.size();
  };
  for (int step = 0; step < 20000; ++step) {
    const uint32_t number = random() % 24;
    switch (random() % 5) {
      case 0:
      case 1: {
        const Status status = insert(number);
        if (pinned(number)) {
          EXPECT_EQ(status.code(), Code::kExists);
        } else if (forget(number)) {
          EXPECT_EQ(status.code(), Code::kExists);
          order.push_back(number);
        } else if (distinct_pinned() == kRoom) {
          EXPECT_EQ(status.code(), Code::kResourceExhausted);
        } else {
          ASSERT_TRUE(status.ok());
          if (order.size() + distinct_pinned() == kRoom) order.pop_front();
          order.push_back(number);
        }
        break;
      }
      case 2: {
        auto pin = tier_->find(chunk_id(number));
        const bool expected = forget(number) || pinned(number);
        ASSERT_EQ(pin.has_value(), expected);
        if (pin) {
          EXPECT_EQ(pin->chunk().slot.bytes()[kSlotBytes - 1], static_cast<std::byte>(number));
          pins.emplace_back(number, std::move(*pin));
        }
        break;
      }
      case 3:
        if (erased.size() == 8 || (!erased.empty() && random() % 2 == 0)) {
          erased.front().pop_back();
          if (erased.front().empty()) erased.pop_front();
        } else if (!pins.empty()) {
          std::swap(pins[random() % pins.size()], pins.back());
          const uint32_t released = pins.back().first;
          pins.pop_back();
          if (!pinned(released)) order.push_back(released);
        }
        break;
      case 4:
        if (erased.size() < 8 && pinned(number)) {
          EXPECT_TRUE(tier_->erase(chunk_id(number)));
          erased.emplace_back();
          for (auto& [of, pin] : pins)
            if (of == number) erased.back().push_back(std::move(pin));
          std::erase_if(pins, [&](const auto& p) { return p.first == number; });
        } else if (!pinned(number)) {
          EXPECT_EQ(tier_->erase(chunk_id(number)), forget(number));
        }
        break;
    }
    ASSERT_EQ(tier_->entries(), order.size() + distinct_pinned());
    ASSERT_EQ(tier_->bytes(), tier_->entries() * kSlotBytes);
    ASSERT_EQ(tier_->pinned_bytes(), distinct_pinned() * kSlotBytes);
    ASSERT_EQ(slots_in_use(), tier_->entries() + erased.size());
    for (uint32_t n = 0; n < 24; ++n) {
      ASSERT_EQ(held(n), pinned(n) || std::find(order.begin(), order.end(), n) != order.end());
    }
  }
}

// A hundred thousand chunks: a step that looked at all of them would not end in the test's time.
TEST_F(HostTierTest, HoldsAHundredThousandChunks) {
  constexpr uint32_t kChunks = 100'000;
  make({.max_bytes = size_t{kChunks} * kSlotBytes}, kChunks + 64);
  for (uint32_t number = 0; number < 2 * kChunks; ++number) ASSERT_TRUE(insert(number).ok());
  EXPECT_EQ(tier_->entries(), kChunks);
  EXPECT_FALSE(held(kChunks - 1));
  EXPECT_TRUE(held(kChunks));
  std::vector<HostTier::Pin> pins;
  for (uint32_t number = kChunks; number < 2 * kChunks; ++number) {
    pins.push_back(*tier_->find(chunk_id(number)));
  }
  EXPECT_EQ(insert(0).code(), Code::kResourceExhausted);
  pins.clear();
  EXPECT_EQ(tier_->evict(SIZE_MAX), kChunks);
  EXPECT_EQ(slots_in_use(), 0u);
}

}  // namespace
}  // namespace baton
