#include "transfer/tiers/host_tier.h"

#include <string>
#include <unordered_map>
#include <utility>

#include "scheduler/eviction.h"
#include "transfer/base/check.h"

namespace baton {
namespace {

const Metrics::Labels kTier = {{"tier", "host"}};

prometheus::Counter& lookups(Metrics& metrics, const char* result) {
  return metrics.counter("baton_tier_lookups_total", "Chunks looked up in a tier.",
                         {{"tier", "host"}, {"result", result}});
}

}  // namespace

struct HostTier::Entry {
  Chunk chunk;
  size_t pins = 0;

  size_t slot_bytes() const { return chunk.slot.bytes().size(); }
};

struct HostTier::Shelf {
  using Entries = std::unordered_map<ChunkId, Entry>;

  Entries entries;                        // entries do not move: Pins point at them
  scheduler::LruOrder<ChunkId> unpinned;  // those of entries that may be evicted
  std::unordered_map<const Entry*, Entries::node_type> erased;  // until their last pin is gone
  size_t bytes = 0;
  size_t pinned_bytes = 0;
  size_t pinned_entries = 0;
  bool tier_gone = false;  // nobody can find what is unpinned any more

  void pin(Entry& entry) {
    if (entry.pins++ > 0) return;
    unpinned.remove(entry.chunk.id);
    pinned_bytes += entry.slot_bytes();
    ++pinned_entries;
  }
  void unpin(Entry& entry) {
    if (--entry.pins > 0) return;
    if (erased.erase(&entry) > 0) return;
    pinned_bytes -= entry.slot_bytes();
    --pinned_entries;
    unpinned.touch(entry.chunk.id);
    if (tier_gone) remove(entries.find(entry.chunk.id));
  }
  // Of an entry that nobody pins.
  void remove(Entries::iterator entry) {
    unpinned.remove(entry->first);
    bytes -= entry->second.slot_bytes();
    entries.erase(entry);
  }
  // Of an entry that somebody pins: its address stays.
  void unlist(Entries::iterator entry) {
    const size_t slot_bytes = entry->second.slot_bytes();
    bytes -= slot_bytes;
    pinned_bytes -= slot_bytes;
    --pinned_entries;
    const Entry* const address = &entry->second;
    erased.emplace(address, entries.extract(entry));
  }
};

HostTier::Pin::Pin() = default;

HostTier::Pin::Pin(std::shared_ptr<Shelf> shelf, Entry* entry)
    : shelf_(std::move(shelf)), entry_(entry) {}

HostTier::Pin::Pin(Pin&& other) noexcept
    : shelf_(std::move(other.shelf_)), entry_(std::exchange(other.entry_, nullptr)) {}

HostTier::Pin& HostTier::Pin::operator=(Pin&& other) noexcept {
  Pin taken(std::move(other));
  std::swap(shelf_, taken.shelf_);
  std::swap(entry_, taken.entry_);
  return *this;
}

HostTier::Pin::~Pin() { reset(); }

const Chunk& HostTier::Pin::chunk() const { return entry_->chunk; }

void HostTier::Pin::reset() {
  // The local reference keeps the shelf where the tier is gone and this was the last pin.
  const std::shared_ptr<Shelf> shelf = std::move(shelf_);
  if (Entry* const entry = std::exchange(entry_, nullptr)) shelf->unpin(*entry);
}

HostTier::HostTier(Config config, Metrics& metrics)
    : config_(config),
      bytes_gauge_(metrics.gauge("baton_tier_bytes", "Bytes of chunks held in a tier.", kTier)),
      chunks_gauge_(metrics.gauge("baton_tier_chunks", "Chunks held in a tier.", kTier)),
      hits_(lookups(metrics, "hit")),
      misses_(lookups(metrics, "miss")),
      evictions_(metrics.counter("baton_tier_evictions_total",
                                 "Chunks that left a tier to make room.", kTier)),
      shelf_(std::make_shared<Shelf>()) {}

HostTier::~HostTier() {
  shelf_->tier_gone = true;
  while (const ChunkId* const oldest = shelf_->unpinned.oldest()) {
    shelf_->remove(shelf_->entries.find(*oldest));
  }
  bytes_gauge_.Set(0);
  chunks_gauge_.Set(0);
}

Status HostTier::insert(Chunk chunk) {
  BATON_CHECK(static_cast<bool>(chunk.slot), "a chunk without a slot in the host tier");
  Shelf& shelf = *shelf_;
  const ChunkId id = chunk.id;
  if (const auto held = shelf.entries.find(id); held != shelf.entries.end()) {
    if (held->second.pins == 0) shelf.unpinned.touch(id);
    return Status(Code::kExists, "chunk " + id.key.to_hex() + " is held already");
  }
  const size_t bytes = chunk.slot.bytes().size();
  if (bytes > config_.max_bytes || shelf.pinned_bytes > config_.max_bytes - bytes ||
      shelf.pinned_entries >= config_.max_entries) {
    return Status(Code::kResourceExhausted,
                  "host tier: no room for " + std::to_string(bytes) +
                      " bytes: " + std::to_string(shelf.pinned_bytes) + " of " +
                      std::to_string(config_.max_bytes) + " bytes and " +
                      std::to_string(shelf.pinned_entries) + " of " +
                      std::to_string(config_.max_entries) + " chunks are pinned");
  }
  while (!fits(bytes)) evict_oldest();
  shelf.entries.emplace(id, Entry{std::move(chunk)});
  shelf.unpinned.touch(id);
  shelf.bytes += bytes;
  publish_sizes();
  return ok_status();
}

std::optional<HostTier::Pin> HostTier::find(const ChunkId& id) {
  const auto found = shelf_->entries.find(id);
  if (found == shelf_->entries.end()) {
    misses_.Increment();
    return std::nullopt;
  }
  hits_.Increment();
  shelf_->pin(found->second);
  return Pin(shelf_, &found->second);
}

std::optional<HostTier::Pin> HostTier::pin(const ChunkId& id) {
  const auto found = shelf_->entries.find(id);
  if (found == shelf_->entries.end()) return std::nullopt;
  shelf_->pin(found->second);
  return Pin(shelf_, &found->second);
}

bool HostTier::contains(const ChunkId& id) const { return shelf_->entries.contains(id); }

size_t HostTier::leading(std::span<const ChunkKey> keys, uint16_t kv_group,
                         uint16_t head_group) const {
  size_t held = 0;
  while (held < keys.size() && contains({keys[held], kv_group, head_group})) ++held;
  return held;
}

size_t HostTier::evict(size_t slots) {
  size_t evicted = 0;
  for (; evicted < slots && shelf_->unpinned.oldest() != nullptr; ++evicted) evict_oldest();
  publish_sizes();
  return evicted;
}

bool HostTier::erase(const ChunkId& id, std::optional<SlotId> slot) {
  const auto found = shelf_->entries.find(id);
  if (found == shelf_->entries.end()) return false;
  if (slot && found->second.chunk.slot.id() != *slot) return false;
  found->second.pins == 0 ? shelf_->remove(found) : shelf_->unlist(found);
  publish_sizes();
  return true;
}

size_t HostTier::clear() {
  const size_t cleared = shelf_->entries.size();
  while (!shelf_->entries.empty()) {
    const auto first = shelf_->entries.begin();
    first->second.pins == 0 ? shelf_->remove(first) : shelf_->unlist(first);
  }
  publish_sizes();
  return cleared;
}

size_t HostTier::entries() const { return shelf_->entries.size(); }
size_t HostTier::bytes() const { return shelf_->bytes; }
size_t HostTier::pinned_bytes() const { return shelf_->pinned_bytes; }

bool HostTier::fits(size_t bytes) const {
  return shelf_->bytes <= config_.max_bytes - bytes && shelf_->entries.size() < config_.max_entries;
}

void HostTier::evict_oldest() {
  const ChunkId* const oldest = shelf_->unpinned.oldest();
  BATON_CHECK(oldest != nullptr, "nothing left to evict");
  shelf_->remove(shelf_->entries.find(*oldest));
  evictions_.Increment();
}

void HostTier::publish_sizes() {
  bytes_gauge_.Set(static_cast<double>(shelf_->bytes));
  chunks_gauge_.Set(static_cast<double>(shelf_->entries.size()));
}

}  // namespace baton
