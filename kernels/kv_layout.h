// How an engine's KV cache lies in memory, as data: one layer on one rank, addressed by a base
// pointer and byte strides over (block, plane, head, token), or as opaque blocks. Gather and
// scatter know nothing else of an engine.
//
//   byte d of head h of token t of plane p of block b:
//     base + b * block_stride + p * plane_stride + h * head_stride + t * token_stride + d
//
// Plain values, usable in host and device code; externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "transfer/base/status.h"

#ifdef __CUDACC__
#define BATON_HD __host__ __device__
#else
#define BATON_HD
#endif

namespace baton {

// The order of a segment's payload. It follows the writer's layout and is recorded with the chunk;
// scatter reads either into any layout. The numbers are on the wire and in stored chunks.
enum class PayloadOrder : uint8_t {
  kTokenHead = 1,  // [plane][token][head][dim]
  kHeadToken = 2,  // [plane][head][token][dim]
  kOpaque = 3,     // [block], whole; bytes beyond the tokens zeroed where the layout can tell them
};

// One layer's KV on one rank. All sizes and strides are in bytes.
struct KvLayout {
  uint32_t block_tokens = 0;
  uint32_t planes = 0;      // 2 for keys and values, 1 for MLA
  uint32_t heads = 0;       // KV heads on this rank (or in a head group of it)
  uint32_t head_bytes = 0;  // head_dim * element_bytes: the run that is always contiguous
  int64_t block_stride = 0;
  int64_t plane_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 0;
  // Nonzero: an opaque block of that many bytes, which the engine packs in a way of its own.
  // Then planes, heads, head_bytes and all strides but block_stride do not count.
  uint64_t opaque_block_bytes = 0;
  // Nonzero (both): the opaque block is `opaque_runs` runs of block_tokens * opaque_token_bytes,
  // token after token, so that bytes beyond the tokens of a short last block can be told and are
  // zeroed in the payload. Zero: whole blocks travel as they are.
  uint32_t opaque_runs = 0;
  uint32_t opaque_token_bytes = 0;

  BATON_HD bool opaque() const { return opaque_block_bytes != 0; }
  bool operator==(const KvLayout&) const = default;
};

// The payload of one block may have at most this many bytes.
inline constexpr uint64_t kMaxBlockBytes = uint64_t{1} << 31;

// kInvalidArgument, naming the values, where sizes are zero or too large, a stride is negative, or
// bytes of different tokens, heads, planes or blocks overlap. (Whether a plane or head that lies
// beyond the blocks overlaps them depends on the number of blocks, which a layout does not know.)
Status validate(const KvLayout& layout);

// How many blocks hold that many tokens.
inline uint32_t blocks_for(const KvLayout& layout, uint32_t tokens) {
  return tokens / layout.block_tokens + (tokens % layout.block_tokens != 0);
}

// Payload bytes of a segment of that many tokens: no padding; opaque: whole blocks.
uint64_t segment_bytes(const KvLayout& layout, uint32_t tokens);

// The order whose gather has the longest contiguous runs; kTokenHead where both are equal.
PayloadOrder natural_order(const KvLayout& layout);

// The layout of heads [first_head, first_head + heads) alone, and the bytes to add to the base
// pointer. The range must lie within the layout, which must not be opaque (CHECK).
std::pair<KvLayout, int64_t> head_group(const KvLayout& layout, uint32_t first_head,
                                        uint32_t heads);

// One layer of one chunk inside an engine's blocks: token 0 lies at the start of blocks[0]. Owns
// nothing; memory and block list must live through the call (or, for a launch, until its event).
struct KvSegment {
  std::byte* base = nullptr;
  KvLayout layout;
  const uint32_t* blocks = nullptr;  // [blocks_for(layout, tokens)] block ids, in any order
  uint32_t tokens = 0;
};

}  // namespace baton
