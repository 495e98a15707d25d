#include "transfer/slot_pool.h"

#include <algorithm>
#include <string>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define BATON_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BATON_ASAN 1
#endif
#endif
#ifdef BATON_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace baton {
namespace {

constexpr size_t kSlotAlignment = 64;

// In AddressSanitizer builds touching a slot that nobody holds is reported like a use after free.
void forbid_access([[maybe_unused]] const std::byte* data, [[maybe_unused]] size_t bytes) {
#ifdef BATON_ASAN
  __asan_poison_memory_region(data, bytes);
#endif
}
void allow_access([[maybe_unused]] const std::byte* data, [[maybe_unused]] size_t bytes) {
#ifdef BATON_ASAN
  __asan_unpoison_memory_region(data, bytes);
#endif
}

}  // namespace

SlotRef::SlotRef(std::shared_ptr<SlotPool> pool, SlotId id) : pool_(std::move(pool)), id_(id) {}

SlotRef::SlotRef(const SlotRef& other) : pool_(other.pool_), id_(other.id_) {
  if (pool_ != nullptr) pool_->add_reader(id_);
}

SlotRef::SlotRef(SlotRef&& other) noexcept
    : pool_(std::move(other.pool_)), id_(std::exchange(other.id_, {})) {}

SlotRef& SlotRef::operator=(SlotRef other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(id_, other.id_);
  return *this;
}

SlotRef::~SlotRef() { reset(); }

void SlotRef::reset() {
  // The local reference keeps the pool alive through the call even where it is the last.
  if (const auto pool = std::exchange(pool_, nullptr)) pool->drop_reader(std::exchange(id_, {}));
}

std::span<std::byte> SlotRef::bytes() const {
  if (pool_ == nullptr) return {};
  return {pool_->arena().data() + arena_offset(), pool_->slot_bytes()};
}

size_t SlotRef::arena_offset() const {
  return pool_ == nullptr ? 0 : size_t{id_.index} * pool_->slot_bytes();
}

SlotWriter::SlotWriter(std::shared_ptr<SlotPool> pool, SlotId id)
    : pool_(std::move(pool)), id_(id) {}

SlotWriter::SlotWriter(SlotWriter&& other) noexcept
    : pool_(std::move(other.pool_)), id_(std::exchange(other.id_, {})) {}

SlotWriter& SlotWriter::operator=(SlotWriter&& other) noexcept {
  SlotWriter taken(std::move(other));
  std::swap(pool_, taken.pool_);
  std::swap(id_, taken.id_);
  return *this;
}

SlotWriter::~SlotWriter() { reset(); }

void SlotWriter::reset() {
  if (const auto pool = std::exchange(pool_, nullptr)) pool->drop_writer(std::exchange(id_, {}));
}

Result<std::shared_ptr<SlotPool>> SlotPool::create(std::unique_ptr<Arena> arena,
                                                   size_t slot_bytes) {
  const size_t arena_bytes = arena->bytes();
  if (slot_bytes == 0 || slot_bytes > arena_bytes) {
    return Status(Code::kInvalidArgument, "slots of " + std::to_string(slot_bytes) +
                                              " bytes: expected 1 to the arena's " +
                                              std::to_string(arena_bytes));
  }
  const size_t rounded = (slot_bytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
  const size_t slots = std::min(arena_bytes / rounded, size_t{UINT32_MAX});
  return std::shared_ptr<SlotPool>(new SlotPool(std::move(arena), rounded, slots));
}

SlotPool::SlotPool(std::unique_ptr<Arena> arena, size_t slot_bytes, size_t slots)
    : arena_(std::move(arena)), slot_bytes_(slot_bytes), slots_(slots), free_(slots) {
  for (size_t i = 0; i < slots; ++i) free_[i] = static_cast<uint32_t>(slots - 1 - i);
  forbid_access(arena_->data(), slots * slot_bytes);
}

Status SlotPool::recut(size_t slot_bytes) {
  if (slot_bytes == 0 || slot_bytes > arena_->bytes() / kSlotAlignment * kSlotAlignment)
    return Status(Code::kInvalidArgument, "slots of " + std::to_string(slot_bytes) +
                                              " bytes: expected 1 to the arena's " +
                                              std::to_string(arena_->bytes()));
  const size_t rounded = (slot_bytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
  MutexLock lock(mutex_);
  if (free_.size() != slots_.size())
    return Status(Code::kUnavailable,
                  "slots of " + std::to_string(slot_bytes_) + " bytes are in use");
  allow_access(arena_->data(), slots_.size() * slot_bytes_);
  slot_bytes_ = rounded;
  slots_.assign(std::min(arena_->bytes() / rounded, size_t{UINT32_MAX}), Slot{});
  free_.resize(slots_.size());
  for (size_t i = 0; i < free_.size(); ++i) free_[i] = static_cast<uint32_t>(free_.size() - 1 - i);
  forbid_access(arena_->data(), slots_.size() * slot_bytes_);
  return ok_status();
}

SlotPool::~SlotPool() {
  // Every reference keeps the pool alive, so none is left. The addresses may be mapped anew.
  allow_access(arena_->data(), slots_.size() * slot_bytes_);
}

std::optional<SlotRef> SlotPool::allocate() {
  SlotId id;
  {
    MutexLock lock(mutex_);
    if (free_.empty()) return std::nullopt;
    id.index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[id.index];
    BATON_CHECK(slot.readers == 0 && slot.writers == 0, "a slot in use was in the free list");
    slot.readers = 1;
    id.generation = ++slot.generation;
  }
  allow_access(arena_->data() + id.index * slot_bytes_, slot_bytes_);
  return SlotRef(shared_from_this(), id);
}

SlotWriter SlotPool::add_writer(const SlotRef& slot) {
  BATON_CHECK(slot.pool_.get() == this, "a writer for a slot of another pool");
  {
    MutexLock lock(mutex_);
    ++slots_[slot.id_.index].writers;
  }
  return SlotWriter(slot.pool_, slot.id_);
}

void SlotPool::on_free(std::function<void()> callback) { on_free_ = std::move(callback); }

void SlotPool::add_reader(SlotId id) {
  MutexLock lock(mutex_);
  ++slots_[id.index].readers;
}

void SlotPool::drop_reader(SlotId id) {
  bool freed = false;
  {
    MutexLock lock(mutex_);
    Slot& slot = slots_[id.index];
    BATON_CHECK(slot.readers > 0 && slot.generation == id.generation, "a reader dropped twice");
    if (--slot.readers == 0) {
      freed = slot.writers == 0;
      if (!freed) ++quarantined_;
    }
    if (freed) make_free(id.index);
  }
  if (freed && on_free_) on_free_();
}

void SlotPool::drop_writer(SlotId id) {
  bool freed = false;
  {
    MutexLock lock(mutex_);
    Slot& slot = slots_[id.index];
    BATON_CHECK(slot.writers > 0 && slot.generation == id.generation, "a writer dropped twice");
    if (--slot.writers == 0 && slot.readers == 0) {
      freed = true;
      --quarantined_;
      make_free(id.index);
    }
  }
  if (freed && on_free_) on_free_();
}

void SlotPool::make_free(uint32_t index) {
  // Under the lock, so that it cannot come after allow_access() for the slot's next holder.
  forbid_access(arena_->data() + index * slot_bytes_, slot_bytes_);
  // Most recently used first: its pages and cache lines are the likeliest to be warm.
  free_.push_back(index);
}

SlotCounts SlotPool::counts() const {
  MutexLock lock(mutex_);
  SlotCounts counts;
  counts.total = slots_.size();
  counts.free = free_.size();
  counts.quarantined = quarantined_;
  counts.held = counts.total - counts.free - counts.quarantined;
  return counts;
}

size_t SlotPool::quarantined_bytes() const {
  MutexLock lock(mutex_);
  return quarantined_ * slot_bytes_;
}

}  // namespace baton
