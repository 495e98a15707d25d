#include "transfer/tiers/host_shelf.h"

#include <cstring>
#include <utility>

namespace baton {

using scheduler::EvictionPolicy;
using scheduler::ItemLists;

HostTier::Shelf::Shelf(scheduler::EvictionKind policy, bool quotas)
    : quotas_(quotas), policy_(EvictionPolicy::create(policy)) {}

const HostTier::Tenant* HostTier::Shelf::tenant(TenantId id) const {
  const auto found = tenants_.find(id);
  return found == tenants_.end() ? nullptr : &found->second;
}

HostTier::Entry& HostTier::Shelf::allocate() {
  if (!free_items_.empty()) {
    Entry& free = entry(free_items_.back());
    free_items_.pop_back();
    return free;
  }
  if (used_items_ % kPage == 0) pages_.push_back(std::make_unique<Page>());
  Entry& fresh = entry(used_items_);
  fresh.item = used_items_++;
  return fresh;
}

void HostTier::Shelf::free(Entry& entry) {
  free_items_.push_back(entry.item);
  // The last thing that is done with it: what is told of the free slot may be anything.
  const Chunk gone = std::exchange(entry.chunk, {});
}

void HostTier::Shelf::add(Chunk chunk, bool tail) {
  Entry& entry = allocate();
  entry.chunk = std::move(chunk);
  entry.listed = true;
  const size_t bytes = entry.slot_bytes();
  bytes_ += bytes;
  index_.insert(entry.chunk.id, entry.item);
  policy_->insert(entry.item, {.key = std::hash<ChunkId>()(entry.chunk.id), .tail = tail});
  entry.tenant = &join(entry.chunk.origin.tenant);
  ++entry.tenant->chunks;
  entry.tenant->bytes += bytes;
  if (quotas_) tenant_orders_.move_to_back(entry.tenant->order, entry.item);
}

void HostTier::Shelf::use(Entry& entry) {
  policy_->use(entry.item);
  if (quotas_) tenant_orders_.move_to_back(entry.tenant->order, entry.item);
}

void HostTier::Shelf::pin(Entry& entry) {
  if (entry.pins++ > 0) return;
  const size_t bytes = entry.slot_bytes();
  pinned_bytes_ += bytes;
  entry.tenant->pinned_bytes += bytes;
  ++pinned_entries_;
  policy_->hold(entry.item);
}

void HostTier::Shelf::unpin(Entry& entry) {
  if (--entry.pins > 0) return;
  if (!entry.listed) return free(entry);
  const size_t bytes = entry.slot_bytes();
  pinned_bytes_ -= bytes;
  entry.tenant->pinned_bytes -= bytes;
  --pinned_entries_;
  policy_->release(entry.item);
  if (quotas_) tenant_orders_.move_to_back(entry.tenant->order, entry.item);
  if (closed_) remove(entry);
}

void HostTier::Shelf::remove(Entry& entry) {
  policy_->remove(entry.item);
  unlist(entry);
}

void HostTier::Shelf::unlist(Entry& entry) {
  const size_t bytes = entry.slot_bytes();
  bytes_ -= bytes;
  if (entry.pins > 0) {
    pinned_bytes_ -= bytes;
    entry.tenant->pinned_bytes -= bytes;
    --pinned_entries_;
  }
  index_.erase(entry.item);
  entry.listed = false;
  leave(entry);
  if (entry.pins == 0) free(entry);
}

bool HostTier::Shelf::evict() {
  const std::optional<Item> item = policy_->evict();
  if (!item) return false;
  unlist(entry(*item));
  return true;
}

bool HostTier::Shelf::evict_of(TenantId id) {
  const auto tenant = tenants_.find(id);
  if (tenant == tenants_.end()) return false;
  // What is pinned is passed over once: unpinned it is the most recent.
  for (Item item = tenant_orders_.front(tenant->second.order); item != kNoItem;
       item = tenant_orders_.front(tenant->second.order)) {
    tenant_orders_.remove(item);
    if (entry(item).pins > 0) continue;
    remove(entry(item));
    return true;
  }
  return false;
}

void HostTier::Shelf::unreserve(TenantId tenant, size_t bytes) {
  const auto found = reserved_.find(tenant);
  if ((found->second -= bytes) == 0) reserved_.erase(found);
}

size_t HostTier::Shelf::reserved(TenantId tenant) const {
  const auto found = reserved_.find(tenant);
  return found == reserved_.end() ? 0 : found->second;
}

void HostTier::Shelf::close() {
  closed_ = true;
  for_each([this](Entry& entry) {
    if (entry.pins == 0) remove(entry);
  });
}

HostTier::Tenant& HostTier::Shelf::join(TenantId id) {
  const auto [at, first] = tenants_.try_emplace(id);
  Tenant& tenant = at->second;
  if (!first) return tenant;
  tenant.id = id;
  if (!quotas_) return tenant;
  if (free_orders_.empty()) {
    tenant.order = tenant_orders_.add_list();
  } else {
    tenant.order = free_orders_.back();
    free_orders_.pop_back();
  }
  return tenant;
}

void HostTier::Shelf::leave(Entry& entry) {
  Tenant& tenant = *std::exchange(entry.tenant, nullptr);
  const TenantId id = tenant.id;
  tenant.bytes -= entry.slot_bytes();
  if (quotas_) tenant_orders_.remove(entry.item);
  if (--tenant.chunks > 0) return;
  if (quotas_) free_orders_.push_back(tenant.order);
  tenants_.erase(id);
}

}  // namespace baton
