// The host tier: chunks in CPU memory, found by key, kept by reference to the slot they were
// gathered into.
//
// A chunk is visible only once it is whole and verified (insert). The least recently used chunk
// that nobody pins leaves first (scheduler/eviction.h). The bound is in bytes of slots.
//
// Thread safety: confined to the node's progress thread; Pins too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

#include "transfer/base/metrics.h"
#include "transfer/chunk.h"

namespace baton {

class HostTier {
 public:
  struct Config {
    size_t max_bytes = 0;      // of slots referenced; 0: keeps nothing
    size_t max_entries = 1u << 20;
  };
  HostTier(Config config, Metrics& metrics);
  ~HostTier();

  // Keeps the chunk alive and un-evictable while it exists; move-only.
  class Pin;

  // Makes a whole chunk visible. kExists where the key is held already (the older stays; not an
  // error for the caller, who drops his reference); kResourceExhausted where pins leave no room.
  Status insert(Chunk chunk);
  // Marks as used and pins; nothing where absent.
  std::optional<Pin> find(const ChunkId& id);
  bool contains(const ChunkId& id) const;
  // Number of leading chunks of `keys` that are held in (kv_group, head_group).
  size_t leading(std::span<const ChunkKey> keys, uint16_t kv_group, uint16_t head_group) const;
  // Lets go of up to `slots` least recently used, unpinned chunks; returns how many.
  size_t evict(size_t slots);
  bool erase(const ChunkId& id);  // false where absent or pinned

  size_t entries() const;
  size_t bytes() const;

 private:
  // (the implementer's)
};

}  // namespace baton
