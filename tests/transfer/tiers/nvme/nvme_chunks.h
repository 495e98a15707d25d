// Chunks whose every byte says which chunk and which version it is of.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transfer/arena.h"
#include "transfer/chunk.h"
#include "transfer/slot_pool.h"

namespace baton::testing {

inline constexpr std::byte kPoison{0xab};

inline std::shared_ptr<SlotPool> make_pool(size_t slots, size_t slot_bytes) {
  return SlotPool::create(Arena::create({.bytes = slots * slot_bytes}).value(), slot_bytes).value();
}

struct ChunkShape {
  uint32_t layers = 4;
  size_t segment_bytes = 8192;
};

inline ChunkId nvme_id(uint32_t number, uint16_t head_group = 0) {
  ChunkId id{.kv_group = 0, .head_group = head_group};
  std::memcpy(id.key.bytes.data(), &number, sizeof number);
  id.key.bytes[31] = 0x77;
  return id;
}

// What layer `layer` of that chunk holds.
inline void fill_segment(const ChunkId& id, uint32_t version, uint32_t layer, std::byte* to,
                         size_t bytes) {
  uint64_t state = std::hash<ChunkId>()(id) * 0x9e3779b97f4a7c15ull +
                   (uint64_t{version} << 32 | layer) + id.head_group;
  for (size_t at = 0; at < bytes; at += sizeof state) {
    state = (state ^ (state >> 29)) * 0xbf58476d1ce4e5b9ull + 0x94d049bb133111ebull;
    std::memcpy(to + at, &state, std::min(sizeof state, bytes - at));
  }
}

// `version` stands in `tokens`, so that old bytes under a new header are seen.
inline Chunk make_chunk(SlotRef slot, const ChunkId& id, const ChunkShape& shape,
                        uint32_t version = 1, const ChunkOrigin& origin = {}) {
  Chunk chunk{.id = id,
              .tokens = version,
              .order = PayloadOrder::kHeadToken,
              .segment_bytes = shape.segment_bytes,
              .slot = std::move(slot),
              .origin = origin};
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    std::byte* const at = chunk.slot.bytes().data() + layer * shape.segment_bytes;
    fill_segment(id, version, layer, at, shape.segment_bytes);
    chunk.checksums.push_back(
        checksum(seed_of(id, layer, shape.segment_bytes), at, shape.segment_bytes));
  }
  return chunk;
}

// "" where the slot holds just that, and poison after it.
inline std::string difference(const Chunk& chunk, const ChunkId& id, const ChunkShape& shape) {
  if (chunk.id != id) return "another id";
  if (chunk.checksums.size() != shape.layers) return "another number of layers";
  if (chunk.segment_bytes != shape.segment_bytes) return "another size";
  std::vector<std::byte> expected(shape.segment_bytes);
  const std::span<std::byte> slot = chunk.slot.bytes();
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    fill_segment(id, chunk.tokens, layer, expected.data(), expected.size());
    if (std::memcmp(slot.data() + layer * shape.segment_bytes, expected.data(), expected.size()))
      return "layer " + std::to_string(layer) + " differs";
  }
  const auto rest = slot.subspan(shape.layers * shape.segment_bytes);
  if (!std::all_of(rest.begin(), rest.end(), [](std::byte each) { return each == kPoison; }))
    return "bytes after the last layer were written";
  return "";
}

inline SlotRef poisoned_slot(SlotPool& pool) {
  SlotRef slot = *pool.allocate();
  std::fill(slot.bytes().begin(), slot.bytes().end(), kPoison);
  return slot;
}

}  // namespace baton::testing
