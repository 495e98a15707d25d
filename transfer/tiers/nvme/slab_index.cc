#include "transfer/tiers/nvme/slab_index.h"

#include <bit>

#include "transfer/base/check.h"

namespace baton::nvme {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

}  // namespace

SlabIndex::SlabIndex(uint32_t slabs)
    : entries_(slabs), buckets_(std::bit_ceil(size_t{slabs}), kNone), order_(slabs, 2) {}

size_t SlabIndex::bucket_of(const ChunkId& id) const {
  return std::hash<ChunkId>()(id) & (buckets_.size() - 1);
}

std::optional<uint32_t> SlabIndex::find(const ChunkId& id) const {
  for (uint32_t slab = buckets_[bucket_of(id)]; slab != kNone; slab = entries_[slab].next_) {
    if (entries_[slab].state_ == State::kHeld && entries_[slab].id_ == id) return slab;
  }
  return std::nullopt;
}

std::vector<uint32_t> SlabIndex::ghosts(const ChunkId& id) const {
  std::vector<uint32_t> found;
  for (uint32_t slab = buckets_[bucket_of(id)]; slab != kNone; slab = entries_[slab].next_) {
    if (entries_[slab].state_ != State::kHeld && entries_[slab].id_ == id) found.push_back(slab);
  }
  return found;
}

std::optional<uint32_t> SlabIndex::take_free() {
  const std::optional<uint32_t> slab = order_.oldest(kFreeOrder);
  if (slab) take(*slab);
  return slab;
}

void SlabIndex::take(uint32_t slab) {
  BATON_CHECK(entries_[slab].state_ == State::kFree, "a slab that is not free is taken");
  order_.remove(slab, kFreeOrder);
  entries_[slab].state_ = State::kTaken;
}

std::optional<uint32_t> SlabIndex::take_oldest() {
  const std::optional<uint32_t> slab = order_.oldest(kUnpinnedOrder);
  if (slab) unlist(*slab);
  return slab;
}

void SlabIndex::expect(uint32_t slab, const HeldChunk& chunk) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kTaken && !entry.stale_ && entry.pins_ == 0,
              "a chunk is expected in a slab that was not taken for it");
  entry.origin_ = chunk.origin;
  entry.generation_ = chunk.generation;
  entry.id_ = chunk.id;
  entry.segment_bytes_ = chunk.segment_bytes;
  entry.layers_ = chunk.layers;
  entry.stale_ = true;
  uint32_t& first = buckets_[bucket_of(chunk.id)];
  entry.next_ = first;
  first = slab;
}

void SlabIndex::publish(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kTaken && entry.stale_ && !entry.released_,
              "a chunk is published that was not expected");
  BATON_CHECK(!find(entry.id_), "a chunk is published twice");
  entry.state_ = State::kHeld;
  order_.touch(slab, kUnpinnedOrder);
  ++held_.chunks;
  held_.bytes += entry.payload_bytes();
}

void SlabIndex::unlist(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kHeld, "a slab that holds nothing is unlisted");
  if (entry.pins_ == 0) order_.remove(slab, kUnpinnedOrder);
  entry.state_ = State::kTaken;
  --held_.chunks;
  held_.bytes -= entry.payload_bytes();
}

void SlabIndex::set_clean(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kTaken, "the header of a slab that is not taken is written");
  if (!entry.stale_) return;
  uint32_t* link = &buckets_[bucket_of(entry.id_)];
  while (*link != slab) link = &entries_[*link].next_;
  *link = entry.next_;
  entry.stale_ = false;
}

void SlabIndex::release(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kTaken && !entry.released_, "a slab is released twice");
  if (entry.pins_ > 0) {
    entry.released_ = true;
  } else {
    make_free(slab);
  }
}

void SlabIndex::make_free(uint32_t slab) {
  entries_[slab].state_ = State::kFree;
  entries_[slab].released_ = false;
  order_.touch(slab, kFreeOrder);
}

void SlabIndex::touch(uint32_t slab) {
  const Entry& entry = entries_[slab];
  if (entry.state_ == State::kHeld && entry.pins_ == 0) order_.touch(slab, kUnpinnedOrder);
}

void SlabIndex::pin(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kHeld, "a slab that holds nothing is pinned");
  BATON_CHECK(entry.pins_ < UINT16_MAX, "more pins than can be counted");
  if (entry.pins_++ == 0) order_.remove(slab, kUnpinnedOrder);
}

void SlabIndex::unpin(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.pins_ > 0, "a pin is taken off twice");
  if (--entry.pins_ > 0) return;
  if (entry.state_ == State::kHeld) {
    order_.touch(slab, kUnpinnedOrder);
  } else if (entry.released_) {
    make_free(slab);
  }
}

}  // namespace baton::nvme
