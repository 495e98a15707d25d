// A host tier over a small pool of slots.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transfer/tiers/host_tier.h"

namespace baton {

inline constexpr size_t kSlotBytes = 64;

inline ChunkId chunk_id(uint32_t number, uint16_t kv_group = 0, uint16_t head_group = 0) {
  ChunkId id{.kv_group = kv_group, .head_group = head_group};
  std::memcpy(id.key.bytes.data(), &number, sizeof number);
  return id;
}

class HostTierTest : public ::testing::Test {
 protected:
  void make(HostTier::Config config, size_t slots = 64) {
    config.policy = scheduler::EvictionKind::kLru;
    make_as_it_is(config, slots);
  }
  // With the policy of `config`.
  void make_as_it_is(HostTier::Config config, size_t slots = 64) {
    auto arena = Arena::create({.bytes = slots * kSlotBytes});
    ASSERT_TRUE(arena.ok());
    auto pool = SlotPool::create(std::move(arena).value(), kSlotBytes);
    ASSERT_TRUE(pool.ok());
    pool_ = std::move(pool).value();
    tier_ = std::make_unique<HostTier>(config, metrics_);
  }

  // A chunk whose slot is filled with the low byte of its number.
  Chunk chunk(const ChunkId& id) {
    Chunk chunk{.id = id, .tokens = 4, .segment_bytes = kSlotBytes, .checksums = {Checksum{7}}};
    chunk.slot = *pool_->allocate();
    std::memset(chunk.slot.bytes().data(), id.key.bytes[0], kSlotBytes);
    return chunk;
  }
  Status insert(uint32_t number) { return tier_->insert(chunk(chunk_id(number))); }
  Status insert_for(TenantId tenant, uint32_t number) {
    Chunk own = chunk(chunk_id(number));
    own.origin.tenant = tenant;
    return tier_->insert(std::move(own));
  }
  static std::vector<ChunkKey> keys(const std::vector<uint32_t>& numbers) {
    std::vector<ChunkKey> out;
    for (const uint32_t number : numbers) out.push_back(chunk_id(number).key);
    return out;
  }
  // Those of them that are held.
  std::vector<uint32_t> held_of(const std::vector<uint32_t>& numbers) const {
    std::vector<uint32_t> out;
    for (const uint32_t number : numbers)
      if (held(number)) out.push_back(number);
    return out;
  }
  bool held(uint32_t number) const { return tier_->contains(chunk_id(number)); }
  size_t slots_in_use() const { return pool_->counts().total - pool_->counts().free; }

  Metrics metrics_;
  std::shared_ptr<SlotPool> pool_;
  std::unique_ptr<HostTier> tier_;
};

}  // namespace baton
