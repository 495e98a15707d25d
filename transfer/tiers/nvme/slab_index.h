// Which chunk lies in which slab, as memory knows it: found by id, left by the least recently used.
//
// All memory is taken at construction, kBytesPerSlab for each slab at most; nothing allocates after
// it. A slab is free; taken (being written, or its header being made a tombstone: nobody finds it);
// or holds a chunk. While somebody reads a slab (a pin) it is neither evicted nor given out again.
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
    // The rest: of slabs that hold, or held, a chunk.
    const ChunkId& id() const { return id_; }
    const ChunkOrigin& origin() const { return origin_; }
    uint64_t generation() const { return generation_; }
    uint32_t layers() const { return layers_; }
    uint32_t segment_bytes() const { return segment_bytes_; }
    uint64_t payload_bytes() const { return uint64_t{layers_} * segment_bytes_; }
    // Whether the header on the device may still say that a chunk lies here: it must be made a
    // tombstone before the slab's bytes change.
    bool stale() const { return stale_; }
    uint16_t pins() const { return pins_; }

   private:
    friend class SlabIndex;
    ChunkOrigin origin_;
    uint64_t generation_ = 0;
    ChunkId id_;
    uint32_t segment_bytes_ = 0;
    uint32_t next_ = 0;  // of the same bucket, or among the free
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
  uint32_t free() const { return free_; }
  // Held, and nobody reads it.
  size_t evictable() const { return unpinned_.size(); }

  // A free slab, the one that has been free for longest; from now on it is taken.
  std::optional<uint32_t> take_free();
  // The least recently used that nobody reads: from now on nobody finds it, and it is taken.
  std::optional<uint32_t> take_oldest();
  // A taken slab holds this chunk now. Its id must not be held elsewhere.
  void publish(uint32_t slab, const HeldChunk& chunk);
  // From now on nobody finds it, and it is taken; pins stay.
  void unlist(uint32_t slab);
  // A taken slab is free, at once or when its last pin is gone.
  void release(uint32_t slab);
  // Of a taken slab: what its header on the device may say.
  void set_stale(uint32_t slab, bool stale) { entries_[slab].stale_ = stale; }

  // Marks as used.
  void touch(uint32_t slab);
  // At most UINT16_MAX at a time: whoever admits reads keeps to that.
  void pin(uint32_t slab);
  void unpin(uint32_t slab);

 private:
  size_t bucket_of(const ChunkId& id) const;
  void make_free(uint32_t slab);

  std::vector<Entry> entries_;
  std::vector<uint32_t> buckets_;  // the first of each
  scheduler::IndexLru unpinned_;   // those of the held that nobody reads
  uint32_t first_free_, last_free_;
  uint32_t free_ = 0;
  ChunkCount held_;
};

static_assert(SlabIndex::kBytesPerSlab <= 128);

}  // namespace baton::nvme
