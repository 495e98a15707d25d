#include "transfer/tiers/nvme/slab_index.h"

#include <bit>

#include "transfer/base/check.h"

namespace baton::nvme {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

}  // namespace

SlabIndex::SlabIndex(uint32_t slabs)
    : entries_(slabs),
      buckets_(std::bit_ceil(size_t{slabs}), kNone),
      unpinned_(slabs),
      first_free_(kNone),
      last_free_(kNone) {}

size_t SlabIndex::bucket_of(const ChunkId& id) const {
  return std::hash<ChunkId>()(id) & (buckets_.size() - 1);
}

std::optional<uint32_t> SlabIndex::find(const ChunkId& id) const {
  uint32_t slab = buckets_[bucket_of(id)];
  while (slab != kNone && entries_[slab].id_ != id) slab = entries_[slab].next_;
  if (slab == kNone) return std::nullopt;
  return slab;
}

std::optional<uint32_t> SlabIndex::take_free() {
  if (first_free_ == kNone) return std::nullopt;
  const uint32_t slab = first_free_;
  Entry& entry = entries_[slab];
  first_free_ = entry.next_;
  if (first_free_ == kNone) last_free_ = kNone;
  --free_;
  entry.state_ = State::kTaken;
  return slab;
}

std::optional<uint32_t> SlabIndex::take_oldest() {
  const std::optional<uint32_t> slab = unpinned_.oldest();
  if (slab) unlist(*slab);
  return slab;
}

void SlabIndex::publish(uint32_t slab, const HeldChunk& chunk) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kTaken && !entry.released_ && entry.pins_ == 0,
              "a chunk published in a slab that was not taken for it");
  BATON_CHECK(!find(chunk.id), "a chunk published twice");
  entry.origin_ = chunk.origin;
  entry.generation_ = chunk.generation;
  entry.id_ = chunk.id;
  entry.segment_bytes_ = chunk.segment_bytes;
  entry.layers_ = chunk.layers;
  entry.state_ = State::kHeld;
  entry.stale_ = true;
  uint32_t& first = buckets_[bucket_of(chunk.id)];
  entry.next_ = first;
  first = slab;
  unpinned_.touch(slab);
  ++held_.chunks;
  held_.bytes += entry.payload_bytes();
}

void SlabIndex::unlist(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kHeld, "a slab that holds nothing is unlisted");
  uint32_t* link = &buckets_[bucket_of(entry.id_)];
  while (*link != slab) link = &entries_[*link].next_;
  *link = entry.next_;
  entry.state_ = State::kTaken;
  unpinned_.remove(slab);
  --held_.chunks;
  held_.bytes -= entry.payload_bytes();
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
  Entry& entry = entries_[slab];
  entry.state_ = State::kFree;
  entry.released_ = false;
  entry.next_ = kNone;
  if (last_free_ == kNone) {
    first_free_ = slab;
  } else {
    entries_[last_free_].next_ = slab;
  }
  last_free_ = slab;
  ++free_;
}

void SlabIndex::touch(uint32_t slab) {
  if (unpinned_.contains(slab)) unpinned_.touch(slab);
}

void SlabIndex::pin(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.state_ == State::kHeld, "a slab that holds nothing is pinned");
  BATON_CHECK(entry.pins_ < UINT16_MAX, "more pins than can be counted");
  if (entry.pins_++ == 0) unpinned_.remove(slab);
}

void SlabIndex::unpin(uint32_t slab) {
  Entry& entry = entries_[slab];
  BATON_CHECK(entry.pins_ > 0, "a pin is taken off twice");
  if (--entry.pins_ > 0) return;
  if (entry.state_ == State::kHeld) {
    unpinned_.touch(slab);
  } else if (entry.released_) {
    make_free(slab);
  }
}

}  // namespace baton::nvme
