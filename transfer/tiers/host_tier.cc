#include "transfer/tiers/host_tier.h"

#include <string>
#include <utility>

#include "transfer/base/check.h"

namespace baton {
namespace {

const Metrics::Labels kTier = {{"tier", "host"}};

prometheus::Counter& lookups(Metrics& metrics, const char* result) {
  return metrics.counter("baton_tier_lookups_total", "Chunks looked up in a tier.",
                         {{"tier", "host"}, {"result", result}});
}

}  // namespace

HostTier::Pin::Pin(Pin&& other) noexcept
    : tier_(std::exchange(other.tier_, nullptr)), entry_(std::exchange(other.entry_, nullptr)) {}

HostTier::Pin& HostTier::Pin::operator=(Pin&& other) noexcept {
  Pin taken(std::move(other));
  std::swap(tier_, taken.tier_);
  std::swap(entry_, taken.entry_);
  return *this;
}

void HostTier::Pin::reset() {
  if (Entry* const entry = std::exchange(entry_, nullptr)) tier_->unpin(*entry);
}

HostTier::HostTier(Config config, Metrics& metrics)
    : config_(config),
      bytes_gauge_(metrics.gauge("baton_tier_bytes", "Bytes of chunks held in a tier.", kTier)),
      chunks_gauge_(metrics.gauge("baton_tier_chunks", "Chunks held in a tier.", kTier)),
      hits_(lookups(metrics, "hit")),
      misses_(lookups(metrics, "miss")),
      evictions_(metrics.counter("baton_tier_evictions_total",
                                 "Chunks that left a tier to make room.", kTier)) {}

HostTier::~HostTier() {
  BATON_CHECK(pinned_entries_ == 0, "a pin outlives its host tier");
  bytes_gauge_.Set(0);
  chunks_gauge_.Set(0);
}

Status HostTier::insert(Chunk chunk) {
  BATON_CHECK(static_cast<bool>(chunk.slot), "a chunk without a slot in the host tier");
  if (const auto held = entries_.find(chunk.id); held != entries_.end()) {
    if (held->second.pins == 0) unpinned_.touch(chunk.id);
    return Status(Code::kExists, "chunk " + chunk.id.key.to_hex() + " is held already");
  }
  const size_t bytes = slot_bytes(chunk);
  if (bytes > config_.max_bytes || pinned_bytes_ > config_.max_bytes - bytes ||
      pinned_entries_ >= config_.max_entries) {
    return Status(Code::kResourceExhausted,
                  "host tier: no room for " + std::to_string(bytes) + " bytes: " +
                      std::to_string(pinned_bytes_) + " of " + std::to_string(config_.max_bytes) +
                      " bytes and " + std::to_string(pinned_entries_) + " of " +
                      std::to_string(config_.max_entries) + " chunks are pinned");
  }
  while (!fits(bytes)) evict_oldest();
  const ChunkId id = chunk.id;
  entries_.emplace(id, Entry{std::move(chunk)});
  unpinned_.touch(id);
  bytes_ += bytes;
  publish_sizes();
  return ok_status();
}

std::optional<HostTier::Pin> HostTier::find(const ChunkId& id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) {
    misses_.Increment();
    return std::nullopt;
  }
  hits_.Increment();
  Entry& entry = found->second;
  if (entry.pins++ == 0) {
    unpinned_.remove(id);
    pinned_bytes_ += slot_bytes(entry.chunk);
    ++pinned_entries_;
  }
  return Pin(this, &entry);
}

bool HostTier::contains(const ChunkId& id) const { return entries_.contains(id); }

size_t HostTier::leading(std::span<const ChunkKey> keys, uint16_t kv_group,
                         uint16_t head_group) const {
  size_t held = 0;
  while (held < keys.size() && contains({keys[held], kv_group, head_group})) ++held;
  return held;
}

size_t HostTier::evict(size_t slots) {
  size_t evicted = 0;
  for (; evicted < slots && unpinned_.oldest() != nullptr; ++evicted) evict_oldest();
  publish_sizes();
  return evicted;
}

bool HostTier::erase(const ChunkId& id) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.pins > 0) return false;
  remove(found);
  publish_sizes();
  return true;
}

bool HostTier::fits(size_t bytes) const {
  return bytes_ <= config_.max_bytes - bytes && entries_.size() < config_.max_entries;
}

void HostTier::evict_oldest() {
  const ChunkId* const oldest = unpinned_.oldest();
  BATON_CHECK(oldest != nullptr, "nothing left to evict");
  remove(entries_.find(*oldest));
  evictions_.Increment();
}

void HostTier::remove(Entries::iterator entry) {
  unpinned_.remove(entry->first);
  bytes_ -= slot_bytes(entry->second.chunk);
  entries_.erase(entry);
}

void HostTier::unpin(Entry& entry) {
  if (--entry.pins > 0) return;
  pinned_bytes_ -= slot_bytes(entry.chunk);
  --pinned_entries_;
  unpinned_.touch(entry.chunk.id);
}

void HostTier::publish_sizes() {
  bytes_gauge_.Set(static_cast<double>(bytes_));
  chunks_gauge_.Set(static_cast<double>(entries_.size()));
}

}  // namespace baton
