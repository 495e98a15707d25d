// Which chunks leave the host tier: by policy, by quota, by filter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <random>

#include "tests/transfer/tiers/host_tier_fixture.h"

namespace baton {
namespace {

using scheduler::EvictionKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class HostShelf : public HostTierTest {};

TEST_F(HostShelf, ThePolicyIsTheOneThatWasAskedFor) {
  const auto found_of = [&](EvictionKind policy) {
    make_as_it_is({.max_bytes = 20 * kSlotBytes, .policy = policy});
    int found = 0;
    uint32_t next = 1'000;
    for (int round = 0; round < 50; ++round) {
      for (uint32_t number = 0; number < 4; ++number) {
        const bool hit = tier_->find(chunk_id(number)).has_value();
        found += hit;
        if (hit) continue;
        EXPECT_TRUE(insert(number).ok());
      }
      for (int i = 0; i < 25; ++i) EXPECT_TRUE(insert(next++).ok());
    }
    EXPECT_EQ(tier_->entries(), 20u);
    return found;
  };
  EXPECT_EQ(found_of(EvictionKind::kLru), 0);
  EXPECT_GT(found_of(EvictionKind::kS3Fifo), 150);
  EXPECT_GT(found_of(EvictionKind::kAgePerUse), 150);
}

TEST_F(HostShelf, ATailLeavesBeforeWholeChunks) {
  make_as_it_is({.max_bytes = 3 * kSlotBytes, .chunk_tokens = 5});
  ASSERT_TRUE(insert(1).ok());  // 4 tokens
  for (const uint32_t number : {2, 3}) {
    Chunk whole = chunk(chunk_id(number));
    whole.tokens = 5;
    ASSERT_TRUE(tier_->insert(std::move(whole)).ok());
  }
  ASSERT_TRUE(tier_->find(chunk_id(3)));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(tier_->find(chunk_id(2)));
  EXPECT_EQ(tier_->evict(1), 1u);
  EXPECT_THAT(held_of({1, 2, 3}), ElementsAre(2, 3));
}

TEST_F(HostShelf, TheEndOfAPromptLeavesBeforeItsBeginning) {
  for (const EvictionKind policy : {EvictionKind::kLru, EvictionKind::kAgePerUse}) {
    make_as_it_is({.max_bytes = 10 * kSlotBytes, .policy = policy});
    // As a handoff does: each chunk is pinned when it is whole, all are let go of at the end.
    std::vector<HostTier::Pin> pins;
    for (const uint32_t number : {1, 2, 3, 4}) {
      ASSERT_TRUE(insert(number).ok());
      pins.push_back(*tier_->pin(chunk_id(number)));
    }
    HostTier::release(pins);
    EXPECT_THAT(pins, IsEmpty());
    ASSERT_EQ(tier_->evict(1), 1u);
    EXPECT_THAT(held_of({1, 2, 3, 4}), ElementsAre(1, 2, 3));
    pins = tier_->find_leading(keys({1, 2}), 0, 0);
    HostTier::release(pins);
    ASSERT_EQ(tier_->evict(2), 2u);
    EXPECT_THAT(held_of({1, 2, 3, 4}), ElementsAre(1));
    tier_.reset();
  }
}

TEST_F(HostShelf, LeadingChunksAreFoundAtOnce) {
  make({.max_bytes = 40 * kSlotBytes});
  std::vector<uint32_t> numbers;
  for (uint32_t number = 0; number < 30; ++number) numbers.push_back(number);
  for (const uint32_t number : numbers) ASSERT_TRUE(insert(number).ok());
  ASSERT_TRUE(tier_->erase(chunk_id(25)));
  auto pins = tier_->find_leading(keys(numbers), 0, 0);
  ASSERT_EQ(pins.size(), 25u);
  for (uint32_t i = 0; i < pins.size(); ++i) EXPECT_EQ(pins[i].chunk().id, chunk_id(i));
  EXPECT_EQ(tier_->pinned_bytes(), 25 * kSlotBytes);
  EXPECT_EQ(tier_->evict(100), 4u);
  EXPECT_THAT(tier_->find_leading(keys({25, 0}), 0, 0), IsEmpty());
  EXPECT_THAT(tier_->find_leading(keys({0}), 0, 1), IsEmpty());
  EXPECT_THAT(tier_->find_leading({}, 0, 0), IsEmpty());
  const std::string text = metrics_.text();
  EXPECT_THAT(text, HasSubstr("baton_tier_lookups_total{result=\"hit\",tier=\"host\"} 25"));
  EXPECT_THAT(text, HasSubstr("baton_tier_lookups_total{result=\"miss\",tier=\"host\"} 3"));
  pins.clear();
  EXPECT_EQ(tier_->evict(100), 25u);
}

// --- quotas

TEST_F(HostShelf, OverItsQuotaATenantLosesItsOwnOldest) {
  make_as_it_is({.max_bytes = 10 * kSlotBytes, .tenant_bytes = 3 * kSlotBytes});
  ASSERT_TRUE(insert_for(7, 1).ok());  // the oldest of all
  for (const uint32_t number : {11, 12, 13}) ASSERT_TRUE(insert_for(8, number).ok());
  ASSERT_TRUE(tier_->find(chunk_id(11)));
  ASSERT_TRUE(insert_for(8, 14).ok());
  EXPECT_THAT(held_of({1, 11, 12, 13, 14}), ElementsAre(1, 11, 13, 14));
  EXPECT_EQ(tier_->tenant_bytes(8), 3 * kSlotBytes);
  EXPECT_EQ(tier_->tenant_bytes(7), kSlotBytes);
  EXPECT_EQ(tier_->tenant_bytes(9), 0u);
  // To make room for one more is the same, and what is being filled counts.
  EXPECT_TRUE(tier_->make_room(8, kSlotBytes));
  EXPECT_THAT(held_of({1, 11, 13, 14}), ElementsAre(1, 11, 14));
  EXPECT_TRUE(tier_->make_room(8, kSlotBytes));
  EXPECT_TRUE(tier_->make_room(7, 2 * kSlotBytes));
  EXPECT_EQ(tier_->entries(), 3u);
  HostTier::Reservation filling = tier_->reserve(8, kSlotBytes);
  EXPECT_TRUE(tier_->make_room(8, kSlotBytes));
  EXPECT_THAT(held_of({1, 11, 14}), ElementsAre(1, 14));
  EXPECT_FALSE(tier_->make_room(8, 3 * kSlotBytes));
  HostTier::Reservation other = std::move(filling);
  filling.reset();
  EXPECT_FALSE(tier_->make_room(8, 3 * kSlotBytes));
  other.reset();
  EXPECT_EQ(tier_->entries(), 2u);
  EXPECT_TRUE(tier_->make_room(8, 3 * kSlotBytes));
  EXPECT_THAT(held_of({1, 14}), ElementsAre(1));
  EXPECT_THAT(metrics_.text(), HasSubstr("baton_tier_evictions_total{tier=\"host\"} 4"));
}

TEST_F(HostShelf, APinnedChunkOfATenantIsPassedOver) {
  make_as_it_is({.max_bytes = 10 * kSlotBytes, .tenant_bytes = 3 * kSlotBytes});
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert_for(8, number).ok());
  std::vector<HostTier::Pin> pins;
  for (const uint32_t number : {1, 3}) pins.push_back(*tier_->pin(chunk_id(number)));
  ASSERT_TRUE(insert_for(8, 4).ok());
  EXPECT_THAT(held_of({1, 2, 3, 4}), ElementsAre(1, 3, 4));
  pins.push_back(*tier_->pin(chunk_id(4)));
  const Status status = insert_for(8, 5);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("of tenant 8: 192 of its 192 bytes are pinned"));
  EXPECT_FALSE(tier_->make_room(8, kSlotBytes));
  EXPECT_TRUE(insert_for(9, 6).ok());
  HostTier::release(pins);  // 4, 3, 1
  ASSERT_TRUE(insert_for(8, 5).ok());
  EXPECT_THAT(held_of({1, 3, 4, 5, 6}), ElementsAre(1, 3, 5, 6));
}

TEST_F(HostShelf, ATenantThatHasNothingAnyMoreCanComeBack) {
  make_as_it_is({.max_bytes = 10 * kSlotBytes, .tenant_bytes = 2 * kSlotBytes});
  for (uint32_t round = 0; round < 10; ++round) {
    for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(insert_for(round, number).ok());
    EXPECT_THAT(held_of({1, 2, 3}), ElementsAre(2, 3));
    EXPECT_TRUE(tier_->erase(chunk_id(2)));
    EXPECT_TRUE(tier_->erase(chunk_id(3)));
    EXPECT_EQ(tier_->tenant_bytes(round), 0u);
  }
  EXPECT_EQ(tier_->bytes(), 0u);
}

// A hundred tenants with the same demand, in a tier that has room for all quotas: each keeps what
// it used last, whatever the others do.
TEST_F(HostShelf, AHundredTenants) {
  constexpr size_t kTenants = 100;
  constexpr size_t kQuota = 5;
  for (const EvictionKind policy :
       {EvictionKind::kLru, EvictionKind::kS3Fifo, EvictionKind::kAgePerUse}) {
    SCOPED_TRACE(scheduler::eviction_name(policy));
    make_as_it_is({.max_bytes = kTenants * kQuota * kSlotBytes,
                   .policy = policy,
                   .tenant_bytes = kQuota * kSlotBytes},
                  kTenants * kQuota + 1);
    std::vector<std::deque<uint32_t>> expected(kTenants);  // oldest first
    std::mt19937 random(17);
    for (int step = 0; step < 50'000; ++step) {
      // The last tenants ask some hundred times as often as the first.
      const auto tenant = static_cast<uint32_t>(
          std::sqrt(std::uniform_real_distribution<>(0, kTenants * kTenants)(random)));
      const uint32_t number = tenant * 1'000 + random() % 12;
      std::deque<uint32_t>& own = expected[tenant];
      const auto at = std::find(own.begin(), own.end(), number);
      const bool hit = tier_->find(chunk_id(number)).has_value();
      ASSERT_EQ(hit, at != own.end()) << "step " << step;
      if (hit) {
        own.erase(at);
      } else {
        ASSERT_TRUE(insert_for(tenant, number).ok());
        if (own.size() == kQuota) own.pop_front();
      }
      own.push_back(number);
      ASSERT_EQ(tier_->tenant_bytes(tenant), own.size() * kSlotBytes);
    }
    size_t full = 0;
    for (const auto& own : expected) full += own.size() == kQuota;
    EXPECT_GT(full, 95u);
  }
}

// One that floods the tier takes nothing from another, though it is full.
TEST_F(HostShelf, AFloodStaysInItsQuota) {
  make_as_it_is({.max_bytes = 10 * kSlotBytes, .tenant_bytes = 6 * kSlotBytes}, 10);
  for (uint32_t number = 0; number < 4; ++number) ASSERT_TRUE(insert_for(1, number).ok());
  for (uint32_t number = 100; number < 1'000; ++number) {
    // As a node does it: the slot is there before the chunk.
    ASSERT_TRUE(tier_->make_room(2, kSlotBytes));
    ASSERT_GT(pool_->counts().free, 0u);
    ASSERT_TRUE(insert_for(2, number).ok());
  }
  EXPECT_EQ(held_of({0, 1, 2, 3}).size(), 4u);
  EXPECT_EQ(tier_->tenant_bytes(2), 6 * kSlotBytes);
}

// --- clear

TEST_F(HostShelf, ClearDropsWhatFitsTheFilter) {
  make({.max_bytes = 40 * kSlotBytes});
  FingerprintDigest other{};
  other[0] = 1;
  for (uint32_t number = 0; number < 12; ++number) {
    Chunk own = chunk(chunk_id(number));
    own.origin.tenant = number % 3;
    if (number >= 6) own.origin.fingerprint = other;
    own.checksums.resize(2);  // of two layers: 2 * 64 bytes of payload
    ASSERT_TRUE(tier_->insert(std::move(own)).ok());
  }
  const auto expect = [&](const ChunkFilter& filter, uint64_t chunks, size_t left) {
    for (const bool dry_run : {true, false}) {
      const size_t before = tier_->entries();
      const ChunkCount cleared = tier_->clear(filter, dry_run);
      EXPECT_EQ(cleared.chunks, chunks);
      EXPECT_EQ(cleared.bytes, chunks * 2 * kSlotBytes);
      EXPECT_EQ(tier_->entries(), dry_run ? before : left);
    }
    EXPECT_EQ(slots_in_use(), left);
    EXPECT_EQ(tier_->bytes(), left * kSlotBytes);
  };
  expect({.fingerprint = other, .tenant = 2}, 2, 10);
  EXPECT_FALSE(held(8) || held(11));
  expect({.tenant = 1}, 4, 6);
  expect({.fingerprint = FingerprintDigest{}}, 4, 2);
  EXPECT_THAT(held_of({6, 9}), ElementsAre(6, 9));
  expect({.tenant = 5}, 0, 2);
  expect({}, 2, 0);
  EXPECT_THAT(metrics_.text(), HasSubstr("baton_tier_evictions_total{tier=\"host\"} 0"));
}

TEST_F(HostShelf, WhatIsReadOutlivesClear) {
  make({.max_bytes = 4 * kSlotBytes});
  ASSERT_TRUE(insert(1).ok());
  ASSERT_TRUE(insert(2).ok());
  auto pin = tier_->find(chunk_id(1));
  EXPECT_TRUE(pin->listed());
  EXPECT_EQ(tier_->clear({}, false).chunks, 2u);
  EXPECT_FALSE(pin->listed());
  EXPECT_EQ(tier_->entries(), 0u);
  EXPECT_EQ(tier_->pinned_bytes(), 0u);
  EXPECT_EQ(pin->chunk().slot.bytes()[0], std::byte{1});
  EXPECT_EQ(slots_in_use(), 1u);
  ASSERT_TRUE(insert(1).ok());
  EXPECT_EQ(tier_->pin(chunk_id(1))->chunk().slot.bytes()[0], std::byte{1});
  pin.reset();
  EXPECT_EQ(slots_in_use(), 1u);
}

}  // namespace
}  // namespace baton
