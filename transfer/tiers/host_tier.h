// The host tier: chunks in CPU memory, found by key, kept by reference to the slot they were
// gathered into.
//
// A chunk is visible only once it is whole and verified (insert). The least recently used chunk
// that nobody pins leaves first (scheduler/eviction.h). The bound is in bytes of slots.
//
// Thread safety: confined to the node's progress thread; Pins too. A pool's on_free may run inside
// insert, evict and erase: it must not call the tier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>

#include "scheduler/eviction.h"
#include "transfer/base/metrics.h"
#include "transfer/base/status.h"
#include "transfer/chunk.h"

namespace baton {

class HostTier {
  struct Entry {
    Chunk chunk;
    size_t pins = 0;
  };

 public:
  struct Config {
    size_t max_bytes = 0;  // of slots referenced; 0: keeps nothing
    size_t max_entries = 1u << 20;
  };
  HostTier(Config config, Metrics& metrics);
  // No Pin is left by then.
  ~HostTier();
  HostTier(const HostTier&) = delete;
  HostTier& operator=(const HostTier&) = delete;

  // Keeps the chunk alive and un-evictable while it exists; move-only.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept;
    Pin& operator=(Pin&& other) noexcept;
    ~Pin() { reset(); }

    explicit operator bool() const { return entry_ != nullptr; }
    const Chunk& chunk() const { return entry_->chunk; }
    void reset();

   private:
    friend class HostTier;
    Pin(HostTier* tier, Entry* entry) : tier_(tier), entry_(entry) {}

    HostTier* tier_ = nullptr;
    Entry* entry_ = nullptr;
  };

  // Makes a whole, verified chunk visible, evicting first where a bound would be passed. kExists
  // where the key is held already (the older stays and is marked as used; not an error for the
  // caller, who drops his reference); kResourceExhausted where it is larger than the bound or pins
  // leave no room: then nothing was evicted.
  Status insert(Chunk chunk);
  // Marks as used and pins; nothing where absent. Counted as a look-up.
  std::optional<Pin> find(const ChunkId& id);
  bool contains(const ChunkId& id) const;
  // Number of leading chunks of `keys` that are held in (kv_group, head_group).
  size_t leading(std::span<const ChunkKey> keys, uint16_t kv_group, uint16_t head_group) const;
  // Lets go of up to `slots` least recently used, unpinned chunks; returns how many. A slot that
  // somebody else still refers to becomes free only when he lets go too.
  size_t evict(size_t slots);
  bool erase(const ChunkId& id);  // false where absent or pinned

  size_t entries() const { return entries_.size(); }
  size_t bytes() const { return bytes_; }
  // What pins keep from being evicted, of bytes().
  size_t pinned_bytes() const { return pinned_bytes_; }

 private:
  using Entries = std::unordered_map<ChunkId, Entry>;

  static size_t slot_bytes(const Chunk& chunk) { return chunk.slot.bytes().size(); }
  bool fits(size_t bytes) const;
  void evict_oldest();
  void remove(Entries::iterator entry);
  void unpin(Entry& entry);
  void publish_sizes();

  const Config config_;
  prometheus::Gauge& bytes_gauge_;
  prometheus::Gauge& chunks_gauge_;
  prometheus::Counter& hits_;
  prometheus::Counter& misses_;
  prometheus::Counter& evictions_;

  Entries entries_;                        // entries do not move: Pins point at them
  scheduler::LruOrder<ChunkId> unpinned_;  // those of entries_ that may be evicted
  size_t bytes_ = 0;
  size_t pinned_bytes_ = 0;
  size_t pinned_entries_ = 0;
};

}  // namespace baton
