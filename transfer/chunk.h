// A chunk that lies whole in a slot: all layers of `tokens` tokens of one (KV group, head group).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/checksum.h"
#include "kernels/kv_layout.h"
#include "transfer/chunk_key.h"
#include "transfer/slot_pool.h"

namespace baton {

// What a chunk is found by.
struct ChunkId {
  ChunkKey key;
  uint16_t kv_group = 0;
  uint16_t head_group = 0;
  bool operator==(const ChunkId&) const = default;
};

// Of what model and for whom it was computed. Both stand in the key's root already; beside it they
// say what may be dropped, and whose quota it counts on.
struct ChunkOrigin {
  FingerprintDigest fingerprint{};
  TenantId tenant = 0;
  bool operator==(const ChunkOrigin&) const = default;
};

// What the checksum of one layer of a chunk, of that many bytes, is seeded with.
inline ChecksumSeed seed_of(const ChunkId& chunk, uint32_t layer, uint64_t bytes) {
  return make_seed({.key = chunk.key.bytes,
                    .layer = layer,
                    .kv_group = chunk.kv_group,
                    .head_group = chunk.head_group,
                    .bytes = bytes});
}

struct Chunk {
  ChunkId id;
  uint32_t tokens = 0;
  PayloadOrder order = PayloadOrder::kTokenHead;
  size_t segment_bytes = 0;         // layer l lies at slot offset l * segment_bytes
  std::vector<Checksum> checksums;  // one a layer, as gathered
  SlotRef slot;
  ChunkOrigin origin;
};

}  // namespace baton

template <>
struct std::hash<baton::ChunkId> {
  size_t operator()(const baton::ChunkId& id) const noexcept {
    return std::hash<baton::ChunkKey>()(id.key) ^ (size_t{id.kv_group} << 16 | id.head_group);
  }
};
