// The host tier: chunks in CPU memory, found by key, kept by reference to the slot they were
// gathered into.
//
// A chunk is visible only once it is whole and verified (insert). Which of those that nobody pins
// leaves first is the policy's choice (scheduler/eviction_policy.h); of a tenant that is over its
// quota it is its own oldest. The bound is in bytes of slots.
//
// A chunk is of use only while those before it are held, so whoever has pinned several of a prompt
// lets go of them from the last to the first: release(). Then the end of a prompt leaves before its
// beginning.
//
// Thread safety: confined to the node's progress thread; Pins too. A pool's on_free may run inside
// whatever lets go of a chunk: it must not call the tier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "scheduler/eviction_policy.h"
#include "transfer/base/clock.h"
#include "transfer/base/metrics.h"
#include "transfer/base/status.h"
#include "transfer/chunk.h"
#include "transfer/tiers/tier.h"

namespace baton {

class HostTier {
  struct Entry;
  struct Tenant;
  class Shelf;  // what is held and in which order it leaves; shared with Pins
  class NamedPins;

 public:
  struct Config {
    size_t max_bytes = 0;  // of slots referenced; 0: keeps nothing
    size_t max_entries = 1u << 20;
    scheduler::EvictionKind policy = scheduler::kDefaultEviction;
    uint32_t chunk_tokens = 0;    // a chunk of fewer is a tail; 0: none is one
    size_t tenant_bytes = 0;      // that each tenant's slots may have; 0: no quota
    size_t max_pin_names = 1024;  // of pin_until()
    size_t max_named_bytes = 0;   // that pin_until() may keep; 0: half of max_bytes
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
    bool listed() const;  // false: it was erased meanwhile
    void reset();

   private:
    friend class HostTier;
    Pin(std::shared_ptr<Shelf> shelf, Entry* entry);

    std::shared_ptr<Shelf> shelf_;
    Entry* entry_ = nullptr;
  };
  // Counts on a tenant's quota while it exists; move-only. It may outlive the tier.
  class Reservation {
   public:
    Reservation();
    Reservation(Reservation&& other) noexcept;
    Reservation& operator=(Reservation&& other) noexcept;
    ~Reservation();
    void reset();

   private:
    friend class HostTier;
    Reservation(std::shared_ptr<Shelf> shelf, TenantId tenant, size_t bytes);

    std::shared_ptr<Shelf> shelf_;
    TenantId tenant_ = 0;
    size_t bytes_ = 0;
  };
  // Lets go of them from the last to the first.
  static void release(std::vector<Pin>& pins);

  // Makes a whole, verified chunk visible, evicting first where a bound would be passed. kExists
  // where the key is held already (the older stays and is marked as used; not an error for the
  // caller, who drops his reference); kResourceExhausted where it is larger than a bound or pins
  // leave no room: then nothing was evicted.
  Status insert(Chunk chunk);
  // Marks as used and pins; nothing where absent. Counted as a look-up.
  std::optional<Pin> find(const ChunkId& id);
  // The same for the leading chunks of `keys` in (kv_group, head_group), up to the first that is
  // absent, which counts as a look-up too: much quicker than one after the other. In their order.
  std::vector<Pin> find_leading(std::span<const ChunkKey> keys, uint16_t kv_group,
                                uint16_t head_group);
  // As find() without being a look-up or a use: for whoever has just inserted it.
  std::optional<Pin> pin(const ChunkId& id);
  bool contains(const ChunkId& id) const;
  // Number of leading chunks of `keys` that are held in (kv_group, head_group).
  size_t leading(std::span<const ChunkKey> keys, uint16_t kv_group, uint16_t head_group) const;
  // Lets go of up to `slots` unpinned chunks, those that the policy wants to leave first; returns
  // how many. A slot that somebody else still refers to becomes free only when he lets go too.
  size_t evict(size_t slots);
  // Lets go of a tenant's own oldest until another `bytes` are within its quota, beside what it has
  // reserved. False where that is not to be had.
  bool make_room(TenantId tenant, size_t bytes);
  // For a slot that is being filled with a chunk of that tenant.
  Reservation reserve(TenantId tenant, size_t bytes);
  // From now on nobody finds it; its slot is let go of at once, or by the last of its pins, and
  // counts no more in bytes(). With `slot`: only where it lies there, and not in one inserted
  // since. False where absent.
  bool erase(const ChunkId& id, std::optional<SlotId> slot = std::nullopt);
  // The same for all that fit, also where they are pinned by name; returns what they are (were,
  // without `dry_run`). Looks at every chunk.
  ChunkCount clear(const ChunkFilter& filter, bool dry_run);

  // Keeps those of `ids` that are held until `until`, or until unpin(name), in the place of what
  // was kept under that name; returns which those are. kInvalidArgument: no such name (1 to 256
  // bytes); kResourceExhausted: too many names, or more bytes than Config says.
  Result<ChunkCount> pin_until(const std::string& name, std::span<const ChunkId> ids,
                               TimePoint until);
  bool unpin(const std::string& name);  // false: there is no such name
  // Lets go of what is kept by name and over; returns how many names. The tier has no clock: until
  // it is told the time nothing is over. O(1) where there is nothing to do.
  size_t expire(TimePoint now);

  size_t entries() const;
  size_t bytes() const;
  size_t tenant_bytes(TenantId tenant) const;
  // What pins keep from being evicted, of bytes().
  size_t pinned_bytes() const;
  size_t pin_names() const;

 private:
  bool fits(size_t bytes) const;
  // Why another chunk may not come, whatever leaves.
  Status check_room(TenantId tenant, size_t bytes) const;
  void evict_one(bool done);
  void publish_sizes();

  const Config config_;
  prometheus::Gauge& bytes_gauge_;
  prometheus::Gauge& chunks_gauge_;
  prometheus::Counter& hits_;
  prometheus::Counter& misses_;
  prometheus::Counter& evictions_;

  const std::shared_ptr<Shelf> shelf_;
  const std::unique_ptr<NamedPins> named_;  // before the shelf is closed
};

}  // namespace baton
