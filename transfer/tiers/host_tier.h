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
#include <memory>
#include <optional>
#include <span>

#include "transfer/base/metrics.h"
#include "transfer/base/status.h"
#include "transfer/chunk.h"

namespace baton {

class HostTier {
  struct Entry;
  struct Shelf;  // what is held and in which order it leaves; shared with Pins

 public:
  struct Config {
    size_t max_bytes = 0;  // of slots referenced; 0: keeps nothing
    size_t max_entries = 1u << 20;
  };
  HostTier(Config config, Metrics& metrics);
  ~HostTier();  // lets go of all chunks but the pinned ones
  HostTier(const HostTier&) = delete;
  HostTier& operator=(const HostTier&) = delete;

  // Keeps the chunk alive and un-evictable while it exists; move-only. It may outlive the tier.
  class Pin {
   public:
    Pin();
    Pin(Pin&& other) noexcept;
    Pin& operator=(Pin&& other) noexcept;
    ~Pin();

    explicit operator bool() const { return entry_ != nullptr; }
    const Chunk& chunk() const;
    void reset();

   private:
    friend class HostTier;
    Pin(std::shared_ptr<Shelf> shelf, Entry* entry);

    std::shared_ptr<Shelf> shelf_;
    Entry* entry_ = nullptr;
  };

  // Makes a whole, verified chunk visible, evicting first where a bound would be passed. kExists
  // where the key is held already (the older stays and is marked as used; not an error for the
  // caller, who drops his reference); kResourceExhausted where it is larger than the bound or pins
  // leave no room: then nothing was evicted.
  Status insert(Chunk chunk);
  // Marks as used and pins; nothing where absent. Counted as a look-up.
  std::optional<Pin> find(const ChunkId& id);
  // The same without being a look-up: for whoever has just inserted it.
  std::optional<Pin> pin(const ChunkId& id);
  bool contains(const ChunkId& id) const;
  // Number of leading chunks of `keys` that are held in (kv_group, head_group).
  size_t leading(std::span<const ChunkKey> keys, uint16_t kv_group, uint16_t head_group) const;
  // Lets go of up to `slots` least recently used, unpinned chunks; returns how many. A slot that
  // somebody else still refers to becomes free only when he lets go too.
  size_t evict(size_t slots);
  // From now on nobody finds it; its slot is let go of at once, or by the last of its pins, and
  // counts no more in bytes(). With `slot`: only where it lies there, and not in one inserted
  // since. False where absent.
  bool erase(const ChunkId& id, std::optional<SlotId> slot = std::nullopt);
  // The same for all chunks; returns how many there were.
  size_t clear();

  size_t entries() const;
  size_t bytes() const;
  // What pins keep from being evicted, of bytes().
  size_t pinned_bytes() const;

 private:
  bool fits(size_t bytes) const;
  void evict_oldest();
  void publish_sizes();

  const Config config_;
  prometheus::Gauge& bytes_gauge_;
  prometheus::Gauge& chunks_gauge_;
  prometheus::Counter& hits_;
  prometheus::Counter& misses_;
  prometheus::Counter& evictions_;

  const std::shared_ptr<Shelf> shelf_;
};

}  // namespace baton
