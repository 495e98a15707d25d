// Which chunk lies in which slab, as memory knows it: found by id, left by the least recently used.
//
// All memory is taken at construction, kBytesPerSlab for each slab at most; nothing allocates after
// it. A slab is free; taken (being written, or its header being made a tombstone: nobody finds it);
// or holds a chunk. While somebody reads a slab (a pin) it is neither evicted nor given out again.
//
// A slab is *stale* while the header on the device may name a chunk: it does where one is held, and
// also where that was evicted or erased, until its tombstone is written. Such ghosts are known by
// their id too, so that to erase a chunk means all that a restart could find of it.
//
// No I/O. Thread safety: externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/index_lru.h"
#include "transfer/tiers/nvme/slab_format.h"
#include "transfer/tiers/tier.h"

namespace baton::nvme {

// What memory keeps of a header.
struct HeldChunk {
  uint64_t generation = 0;
  ChunkId id;
  ChunkOrigin origin;
  uint32_t segment_bytes = 0;
  uint16_t layers = 0;
  bool operator==(const HeldChunk&) const = default;

  static HeldChunk of(const ChunkHeader& header) {
    return {header.generation, header.id, header.origin, header.segment_bytes,
            static_cast<uint16_t>(header.checksums.size())};
  }
};

class SlabIndex {
 public:
  enum class State : uint8_t { kFree, kTaken, kHeld };

  class Entry {
   public:
    State state() const { return state_; }
    // The rest: of stale slabs.
    const ChunkId& id() const { return id_; }
    const ChunkOrigin& origin() const { return origin_; }
    uint64_t generation() const { return generation_; }
    uint32_t layers() const { return layers_; }
    uint32_t segment_bytes() const { return segment_bytes_; }
    uint64_t payload_bytes() const { return uint64_t{layers_} * segment_bytes_; }
    bool stale() const { return stale_; }

   private:
    friend class SlabIndex;
    ChunkOrigin origin_;
    uint64_t generation_ = 0;
    ChunkId id_;
    uint32_t segment_bytes_ = 0;
    uint32_t next_ = 0;  // of the same bucket, where it is stale
    uint16_t layers_ = 0;
    uint16_t pins_ = 0;
    State state_ = State::kTaken;
    bool stale_ : 1 = false;
    bool released_ : 1 = false;  // taken, and free once its last pin is gone
  };
  // An entry, its place in the order, and up to two buckets.
  static constexpr size_t kBytesPerSlab = sizeof(Entry) + 8 + 2 * sizeof(uint32_t);

  // All of them are taken: whoever knows what lies there publishes or releases each.
  explicit SlabIndex(uint32_t slabs);

  uint32_t slabs() const { return static_cast<uint32_t>(entries_.size()); }
  const Entry& at(uint32_t slab) const { return entries_[slab]; }
  std::optional<uint32_t> find(const ChunkId& id) const;
  ChunkCount held() const { return held_; }
  uint32_t free() const { return static_cast<uint32_t>(order_.size(kFreeOrder)); }
  // Held, and nobody reads it.
  size_t evictable() const { return order_.size(kUnpinnedOrder); }
  // Those that a restart would find for this id, though nobody does now.
  std::vector<uint32_t> ghosts(const ChunkId& id) const;

  // A free slab, the one that has been free for longest; from now on it is taken.
  std::optional<uint32_t> take_free();
  // The same for this free slab.
  void take(uint32_t slab);
  // The least recently used that nobody reads: from now on nobody finds it, and it is taken.
  std::optional<uint32_t> take_oldest();
  // From now on the header of a taken slab may name this chunk.
  void expect(uint32_t slab, const HeldChunk& chunk);
  // A taken slab holds what was expected. Its id must not be held elsewhere.
  void publish(uint32_t slab);
  // From now on nobody finds it, and it is taken; pins stay.
  void unlist(uint32_t slab);
  // The header of a taken slab names nothing any more.
  void set_clean(uint32_t slab);
  // A taken slab is free, at once or when its last pin is gone.
  void release(uint32_t slab);

  // Marks as used.
  void touch(uint32_t slab);
  // At most UINT16_MAX at a time: whoever admits reads keeps to that.
  void pin(uint32_t slab);
  void unpin(uint32_t slab);

 private:
  static constexpr uint32_t kUnpinnedOrder = 0, kFreeOrder = 1;

  size_t bucket_of(const ChunkId& id) const;
  void make_free(uint32_t slab);

  std::vector<Entry> entries_;
  std::vector<uint32_t> buckets_;  // the first of each
  scheduler::IndexLru order_;      // of the held that nobody reads, and of the free
  ChunkCount held_;
};

static_assert(SlabIndex::kBytesPerSlab <= 128);

}  // namespace baton::nvme
