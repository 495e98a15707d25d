// What the host tier holds: the chunks themselves, the index that finds them, and the orders in
// which they leave. Internal to the host tier, which shares it with the Pins that it gave out.
//
// Thread safety: confined to the node's progress thread.
#pragma once

#include <array>
#include <unordered_map>
#include <vector>

#include "scheduler/eviction_policy.h"
#include "scheduler/item_lists.h"
#include "transfer/tiers/chunk_index.h"
#include "transfer/tiers/host_tier.h"

namespace baton {

using scheduler::Item;
using scheduler::kNoItem;

// What a tenant has on the shelf.
struct HostTier::Tenant {
  TenantId id = 0;
  size_t chunks = 0;
  size_t bytes = 0;  // of slots
  size_t pinned_bytes = 0;
  scheduler::ItemLists::List order = scheduler::ItemLists::kNoList;  // of its chunks, by use
};

struct HostTier::Entry {
  Chunk chunk;
  Item item = kNoItem;
  uint32_t pins = 0;
  bool listed = false;       // look-ups find it; else its last pin is waited for, or it is free
  Tenant* tenant = nullptr;  // while listed

  size_t slot_bytes() const { return chunk.slot.bytes().size(); }
};

class HostTier::Shelf {
 public:
  // With `quotas` each tenant's chunks have an order of their own.
  Shelf(scheduler::EvictionKind policy, bool quotas);

  Entry* find(const ChunkId& id) {
    const Item item = index_.find(id);
    return item == kNoItem ? nullptr : &entry(item);
  }
  Entry& entry(Item item) { return (*pages_[item / kPage])[item % kPage]; }
  const ChunkIndex& index() const { return index_; }
  const Tenant* tenant(TenantId id) const;

  // Of a chunk that is not there. `tail`: EvictionPolicy::Arrival.
  void add(Chunk chunk, bool tail);
  void use(Entry& entry);
  void pin(Entry& entry);
  void unpin(Entry& entry);
  // Found no more; its slot is let go of at once, or by the last of its pins.
  void remove(Entry& entry);
  // The same for the one that the policy lets go, or for a tenant's oldest; false where all that
  // there is is pinned.
  bool evict();
  bool evict_of(TenantId tenant);

  // Of slots that are being filled.
  void reserve(TenantId tenant, size_t bytes) { reserved_[tenant] += bytes; }
  void unreserve(TenantId tenant, size_t bytes);
  size_t reserved(TenantId tenant) const;

  // Lets go of all that nobody pins, and of the rest when it is unpinned: the tier is gone.
  void close();
  // Calls f(Entry&) for all that look-ups find; f may remove it.
  template <typename F>
  void for_each(F&& f) {
    for (Item item = 0; item < used_items_; ++item)
      if (Entry& e = entry(item); e.listed) f(e);
  }

  size_t entries() const { return index_.size(); }
  size_t bytes() const { return bytes_; }
  size_t pinned_bytes() const { return pinned_bytes_; }
  size_t pinned_entries() const { return pinned_entries_; }

 private:
  static constexpr size_t kPage = 256;
  using Page = std::array<Entry, kPage>;

  Entry& allocate();
  void free(Entry& entry);
  // remove() of what the policy knows no more.
  void unlist(Entry& entry);
  Tenant& join(TenantId id);
  void leave(Entry& entry);

  const bool quotas_;
  ChunkIndex index_;
  std::unique_ptr<scheduler::EvictionPolicy> policy_;
  std::vector<std::unique_ptr<Page>> pages_;  // entries do not move: Pins point at them
  Item used_items_ = 0;                       // so many were ever given
  std::vector<Item> free_items_;
  std::unordered_map<TenantId, Tenant> tenants_;  // those that have chunks; they do not move
  scheduler::ItemLists tenant_orders_;
  std::vector<scheduler::ItemLists::List> free_orders_;
  std::unordered_map<TenantId, size_t> reserved_;
  size_t bytes_ = 0;
  size_t pinned_bytes_ = 0;
  size_t pinned_entries_ = 0;
  bool closed_ = false;
};

}  // namespace baton
