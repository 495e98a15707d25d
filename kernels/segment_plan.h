// Where each byte of a segment's payload lies in the engine's blocks: one description for every
// layout and payload order. With strides over outer heads, tokens and inner heads, the payload is
//
//   [plane][outer head][token][inner head][unit bytes]
//
// kTokenHead has no outer heads, kHeadToken no inner ones; heads that lie side by side become one
// unit; an opaque block is one "token" of a block of one. Fast paths follow from the length of
// the contiguous runs.
#pragma once

#include <algorithm>

#include "kernels/kv_layout.h"

namespace baton {

struct SegmentPlan {
  uint32_t planes = 1;
  uint32_t outer_heads = 1;
  uint32_t inner_heads = 1;
  uint32_t tokens = 0;
  uint32_t block_tokens = 1;
  uint32_t first_token = 0;  // tokens before it have no place in the blocks (scatter skips them)
  uint64_t unit_bytes = 0;
  int64_t block_stride = 0;
  int64_t plane_stride = 0;
  int64_t outer_stride = 0;
  int64_t token_stride = 0;
  int64_t inner_stride = 0;
  // Tokens of one block follow each other without a gap.
  bool tokens_joined = false;
  // Of an opaque layout that can tell its tokens (else zero): a block is part_runs runs of
  // part_tokens times part_token_bytes, and tokens [part_first, part_end) of the segment count.
  uint32_t part_runs = 0;
  uint32_t part_tokens = 0;
  uint32_t part_token_bytes = 0;
  uint32_t part_first = 0;
  uint32_t part_end = 0;

  BATON_HD uint64_t row_bytes() const { return unit_bytes * inner_heads; }
  BATON_HD uint64_t outer_bytes() const { return row_bytes() * tokens; }
  BATON_HD uint64_t bytes() const { return outer_bytes() * outer_heads * planes; }
};

// `order` must be kOpaque for opaque layouts and only for them; first_token <= segment.tokens, and
// for opaque layouts that cannot tell their tokens a multiple of block_tokens or segment.tokens
// (CHECK).
SegmentPlan make_plan(const KvSegment& segment, PayloadOrder order, uint32_t first_token);

// Whether a payload's bytes lie in runs so long that a system call which takes a list of them costs
// no more than their copy: at least kLongRunBytes on the average, or few, and none without a place.
inline constexpr uint64_t kLongRunBytes = 512;
bool in_long_runs(const KvSegment& segment, PayloadOrder order);

// A run of payload bytes that lie side by side in one block.
struct Run {
  std::byte* at;  // null: bytes with no place in the blocks (zeros in, skipped out)
  uint64_t bytes;
  const std::byte* next;  // the same place in the next block of the list, or null
};

namespace internal {

// The runs of one opaque block of which only some tokens count.
template <typename Visit>
void visit_partial_block(const SegmentPlan& plan, uint32_t block_index, std::byte* block,
                         Visit&& visit) {
  const uint32_t begin = block_index * plan.part_tokens;
  const uint32_t end = std::min(plan.part_end - begin, plan.part_tokens);
  const uint32_t first = plan.part_first > begin ? std::min(plan.part_first - begin, end) : 0;
  const uint64_t run_bytes = uint64_t{plan.part_tokens} * plan.part_token_bytes;
  const uint64_t first_byte = uint64_t{first} * plan.part_token_bytes;
  const uint64_t end_byte = uint64_t{end} * plan.part_token_bytes;
  for (uint32_t r = 0; r < plan.part_runs; ++r) {
    if (first_byte > 0) visit(Run{nullptr, first_byte, nullptr});
    if (end_byte > first_byte) {
      visit(Run{block + r * run_bytes + first_byte, end_byte - first_byte, nullptr});
    }
    if (run_bytes > end_byte) visit(Run{nullptr, run_bytes - end_byte, nullptr});
  }
}

// The tokens of one block (of one plane and outer head). `at` is its token 0, `count` its tokens,
// of which the first `skipped` have no place; `next` is the distance to the next block, or 0.
template <typename Visit>
void visit_block(const SegmentPlan& plan, std::byte* at, uint32_t count, uint32_t skipped,
                 int64_t next, Visit&& visit) {
  if (skipped > 0) visit(Run{nullptr, skipped * plan.row_bytes(), nullptr});
  if (skipped == count) return;
  const auto emit = [&](std::byte* run, uint64_t bytes) {
    visit(Run{run, bytes, next != 0 ? run + next : nullptr});
  };
  at += int64_t{skipped} * plan.token_stride;
  if (plan.tokens_joined) {
    emit(at, (count - skipped) * plan.unit_bytes);
    return;
  }
  for (uint32_t t = skipped; t < count; ++t, at += plan.token_stride) {
    for (uint32_t h = 0; h < plan.inner_heads; ++h) {
      emit(at + int64_t{h} * plan.inner_stride, plan.unit_bytes);
    }
  }
}

}  // namespace internal

// Calls visit(Run) for every run, in payload order; their bytes sum up to plan.bytes().
template <typename Visit>
void for_each_run(const SegmentPlan& plan, std::byte* base, const uint32_t* blocks, Visit&& visit) {
  for (uint32_t outer = 0; outer < plan.planes * plan.outer_heads; ++outer) {
    std::byte* start = base + int64_t{outer / plan.outer_heads} * plan.plane_stride +
                       int64_t{outer % plan.outer_heads} * plan.outer_stride;
    for (uint32_t token = 0, b = 0; token < plan.tokens; token += plan.block_tokens, ++b) {
      std::byte* block = start + int64_t{blocks[b]} * plan.block_stride;
      const uint32_t count = std::min(plan.block_tokens, plan.tokens - token);
      if (plan.part_runs != 0 && (plan.part_first > b * plan.part_tokens ||
                                  plan.part_end - b * plan.part_tokens < plan.part_tokens)) {
        internal::visit_partial_block(plan, b, block, visit);
        continue;
      }
      const uint32_t skipped =
          plan.first_token > token ? std::min(plan.first_token - token, count) : 0;
      const bool last = plan.tokens - token <= plan.block_tokens;
      const int64_t next =
          last ? 0 : (int64_t{blocks[b + 1]} - int64_t{blocks[b]}) * plan.block_stride;
      internal::visit_block(plan, block, count, skipped, next, visit);
      if (last) break;  // token + block_tokens may not fit 32 bits
    }
  }
}

}  // namespace baton
