#include "transfer/tiers/host_tier.h"

#include <utility>

#include "transfer/base/check.h"
#include "transfer/tiers/host_shelf.h"
#include "transfer/tiers/named_pins.h"

namespace baton {
namespace {

const Metrics::Labels kTier = {{"tier", "host"}};

prometheus::Counter& lookups(Metrics& metrics, const char* result) {
  return metrics.counter("baton_tier_lookups_total", "Chunks looked up in a tier.",
                         {{"tier", "host"}, {"result", result}});
}

void count(ChunkCount& sum, const Chunk& chunk) {
  ++sum.chunks;
  sum.bytes += uint64_t{chunk.segment_bytes} * chunk.checksums.size();
}

bool matches(const ChunkFilter& filter, const ChunkOrigin& origin) {
  return (!filter.fingerprint || *filter.fingerprint == origin.fingerprint) &&
         (!filter.tenant || *filter.tenant == origin.tenant);
}

}  // namespace

// --- Pin

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
bool HostTier::Pin::listed() const { return entry_->listed; }

void HostTier::Pin::reset() {
  // The local reference keeps the shelf where the tier is gone and this was the last pin.
  const std::shared_ptr<Shelf> shelf = std::move(shelf_);
  if (Entry* const entry = std::exchange(entry_, nullptr)) shelf->unpin(*entry);
}

void HostTier::release(std::vector<Pin>& pins) {
  while (!pins.empty()) pins.pop_back();
}

// --- Reservation

HostTier::Reservation::Reservation() = default;

HostTier::Reservation::Reservation(std::shared_ptr<Shelf> shelf, TenantId tenant, size_t bytes)
    : shelf_(std::move(shelf)), tenant_(tenant), bytes_(bytes) {
  shelf_->reserve(tenant_, bytes_);
}

HostTier::Reservation::Reservation(Reservation&& other) noexcept
    : shelf_(std::move(other.shelf_)), tenant_(other.tenant_), bytes_(other.bytes_) {}

HostTier::Reservation& HostTier::Reservation::operator=(Reservation&& other) noexcept {
  Reservation taken(std::move(other));
  std::swap(shelf_, taken.shelf_);
  std::swap(tenant_, taken.tenant_);
  std::swap(bytes_, taken.bytes_);
  return *this;
}

HostTier::Reservation::~Reservation() { reset(); }

void HostTier::Reservation::reset() {
  if (const std::shared_ptr<Shelf> shelf = std::move(shelf_)) shelf->unreserve(tenant_, bytes_);
}

// --- HostTier

HostTier::HostTier(Config config, Metrics& metrics)
    : config_(config),
      bytes_gauge_(metrics.gauge("baton_tier_bytes", "Bytes of chunks held in a tier.", kTier)),
      chunks_gauge_(metrics.gauge("baton_tier_chunks", "Chunks held in a tier.", kTier)),
      hits_(lookups(metrics, "hit")),
      misses_(lookups(metrics, "miss")),
      evictions_(metrics.counter("baton_tier_evictions_total",
                                 "Chunks that left a tier to make room.", kTier)),
      shelf_(std::make_shared<Shelf>(config.policy, config.tenant_bytes != 0)),
      named_(std::make_unique<NamedPins>(config.max_pin_names, config.max_named_bytes != 0
                                                                   ? config.max_named_bytes
                                                                   : config.max_bytes / 2)) {}

HostTier::~HostTier() {
  named_->clear();
  shelf_->close();
  bytes_gauge_.Set(0);
  chunks_gauge_.Set(0);
}

Status HostTier::check_room(TenantId tenant, size_t bytes) const {
  if (bytes > config_.max_bytes || shelf_->pinned_bytes() > config_.max_bytes - bytes ||
      shelf_->pinned_entries() >= config_.max_entries)
    return Status(Code::kResourceExhausted,
                  "host tier: no room for " + std::to_string(bytes) +
                      " bytes: " + std::to_string(shelf_->pinned_bytes()) + " of " +
                      std::to_string(config_.max_bytes) + " bytes and " +
                      std::to_string(shelf_->pinned_entries()) + " of " +
                      std::to_string(config_.max_entries) + " chunks are pinned");
  if (config_.tenant_bytes == 0) return ok_status();
  const Tenant* const own = shelf_->tenant(tenant);
  const size_t pinned = own == nullptr ? 0 : own->pinned_bytes;
  if (bytes > config_.tenant_bytes || pinned > config_.tenant_bytes - bytes)
    return Status(Code::kResourceExhausted,
                  "host tier: no room for " + std::to_string(bytes) + " bytes of tenant " +
                      std::to_string(tenant) + ": " + std::to_string(pinned) + " of its " +
                      std::to_string(config_.tenant_bytes) + " bytes are pinned");
  return ok_status();
}

Status HostTier::insert(Chunk chunk) {
  BATON_CHECK(static_cast<bool>(chunk.slot), "a chunk without a slot in the host tier");
  if (Entry* const held = shelf_->find(chunk.id)) {
    shelf_->use(*held);
    return Status(Code::kExists, "chunk " + chunk.id.key.to_hex() + " is held already");
  }
  const size_t bytes = chunk.slot.bytes().size();
  const TenantId tenant = chunk.origin.tenant;
  BATON_RETURN_IF_ERROR(check_room(tenant, bytes));
  if (config_.tenant_bytes != 0)
    while (tenant_bytes(tenant) > config_.tenant_bytes - bytes) evict_one(shelf_->evict_of(tenant));
  while (!fits(bytes)) evict_one(shelf_->evict());
  const bool tail = chunk.tokens < config_.chunk_tokens;
  shelf_->add(std::move(chunk), tail);
  publish_sizes();
  return ok_status();
}

std::optional<HostTier::Pin> HostTier::find(const ChunkId& id) {
  Entry* const found = shelf_->find(id);
  (found == nullptr ? misses_ : hits_).Increment();
  if (found == nullptr) return std::nullopt;
  shelf_->use(*found);
  shelf_->pin(*found);
  return Pin(shelf_, found);
}

std::vector<HostTier::Pin> HostTier::find_leading(std::span<const ChunkKey> keys, uint16_t kv_group,
                                                  uint16_t head_group) {
  std::vector<Pin> pins;
  pins.reserve(keys.size());
  shelf_->index().for_leading(keys, kv_group, head_group, [&](Item item) {
    Entry& entry = shelf_->entry(item);
    shelf_->pin(entry);
    pins.push_back(Pin(shelf_, &entry));
  });
  for (size_t i = pins.size(); i-- > 0;) shelf_->use(*pins[i].entry_);
  if (!pins.empty()) hits_.Increment(static_cast<double>(pins.size()));
  if (pins.size() < keys.size()) misses_.Increment();
  return pins;
}

std::optional<HostTier::Pin> HostTier::pin(const ChunkId& id) {
  Entry* const found = shelf_->find(id);
  if (found == nullptr) return std::nullopt;
  shelf_->pin(*found);
  return Pin(shelf_, found);
}

bool HostTier::contains(const ChunkId& id) const { return shelf_->find(id) != nullptr; }

size_t HostTier::leading(std::span<const ChunkKey> keys, uint16_t kv_group,
                         uint16_t head_group) const {
  return shelf_->index().for_leading(keys, kv_group, head_group, [](Item) {});
}

size_t HostTier::evict(size_t slots) {
  size_t evicted = 0;
  for (; evicted < slots && shelf_->evict(); ++evicted) evictions_.Increment();
  publish_sizes();
  return evicted;
}

bool HostTier::make_room(TenantId tenant, size_t bytes) {
  const size_t quota = config_.tenant_bytes;
  if (quota == 0) return true;
  bytes += shelf_->reserved(tenant);
  if (bytes > quota) return false;
  while (tenant_bytes(tenant) > quota - bytes) {
    if (!shelf_->evict_of(tenant)) return false;
    evictions_.Increment();
  }
  publish_sizes();
  return true;
}

HostTier::Reservation HostTier::reserve(TenantId tenant, size_t bytes) {
  return Reservation(shelf_, tenant, bytes);
}

bool HostTier::erase(const ChunkId& id, std::optional<SlotId> slot) {
  Entry* const found = shelf_->find(id);
  if (found == nullptr) return false;
  if (slot && found->chunk.slot.id() != *slot) return false;
  const bool pinned = found->pins > 0;
  shelf_->remove(*found);
  if (pinned) named_->drop_erased();
  publish_sizes();
  return true;
}

ChunkCount HostTier::clear(const ChunkFilter& filter, bool dry_run) {
  ChunkCount cleared;
  shelf_->for_each([&](Entry& entry) {
    if (!matches(filter, entry.chunk.origin)) return;
    count(cleared, entry.chunk);
    if (!dry_run) shelf_->remove(entry);
  });
  if (!dry_run) {
    named_->drop_erased();
    publish_sizes();
  }
  return cleared;
}

Result<ChunkCount> HostTier::pin_until(const std::string& name, std::span<const ChunkId> ids,
                                       TimePoint until) {
  ChunkCount kept;
  std::vector<Pin> pins;
  for (const ChunkId& id : ids) {
    std::optional<Pin> pin = this->pin(id);
    if (!pin) continue;
    count(kept, pin->chunk());
    pins.push_back(std::move(*pin));
  }
  BATON_RETURN_IF_ERROR(named_->keep(name, std::move(pins), until));
  return kept;
}

bool HostTier::unpin(const std::string& name) { return named_->drop(name); }
size_t HostTier::expire(TimePoint now) { return named_->expire(now); }

size_t HostTier::entries() const { return shelf_->entries(); }
size_t HostTier::bytes() const { return shelf_->bytes(); }
size_t HostTier::pinned_bytes() const { return shelf_->pinned_bytes(); }
size_t HostTier::pin_names() const { return named_->names(); }
size_t HostTier::tenant_bytes(TenantId tenant) const {
  const Tenant* const found = shelf_->tenant(tenant);
  return found == nullptr ? 0 : found->bytes;
}

bool HostTier::fits(size_t bytes) const {
  return shelf_->bytes() <= config_.max_bytes - bytes && shelf_->entries() < config_.max_entries;
}

// What check_room() has promised.
void HostTier::evict_one(bool done) {
  BATON_CHECK(done, "nothing left to evict");
  evictions_.Increment();
}

void HostTier::publish_sizes() {
  bytes_gauge_.Set(static_cast<double>(shelf_->bytes()));
  chunks_gauge_.Set(static_cast<double>(shelf_->entries()));
}

}  // namespace baton
