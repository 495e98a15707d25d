// The floor of a gather and a scatter: the same runs copied by a bare loop, without a checksum. It
// is written from the layout's strides alone and shares nothing with kernels/, so that it is also
// what the kernels' bytes are compared with.
#pragma once

#include <cstring>

#include "kernels/kv_layout.h"

namespace baton::bench {

// The runs of a segment that lie side by side both in the payload and in the blocks, as nested
// loops: [plane][outer head][block][token][inner head]. Opaque blocks are one run each.
struct BareRuns {
  uint32_t planes = 1, outer_heads = 1, tokens = 1, inner_heads = 1;  // tokens: of a block
  size_t run_bytes = 0;
  int64_t plane_stride = 0, outer_stride = 0, token_stride = 0, inner_stride = 0;

  BareRuns(const KvLayout& layout, PayloadOrder order);
};

// Calls copy(in blocks, in payload, the same place in the next block or null, run_bytes) for all
// runs of a segment of whole blocks, in payload order.
template <typename Copy>
void for_each_bare_run(const BareRuns& runs, const KvSegment& segment, std::byte* payload,
                       Copy&& copy) {
  const uint32_t blocks = blocks_for(segment.layout, segment.tokens);
  for (uint32_t p = 0; p < runs.planes; ++p)
    for (uint32_t o = 0; o < runs.outer_heads; ++o)
      for (uint32_t b = 0; b < blocks; ++b) {
        std::byte* block = segment.base + int64_t{segment.blocks[b]} * segment.layout.block_stride +
                           p * runs.plane_stride + o * runs.outer_stride;
        const int64_t next = b + 1 == blocks
                                 ? 0
                                 : (int64_t{segment.blocks[b + 1]} - int64_t{segment.blocks[b]}) *
                                       segment.layout.block_stride;
        for (uint32_t t = 0; t < runs.tokens; ++t)
          for (uint32_t h = 0; h < runs.inner_heads; ++h) {
            std::byte* run = block + t * runs.token_stride + h * runs.inner_stride;
            copy(run, payload, next != 0 ? run + next : nullptr, runs.run_bytes);
            payload += runs.run_bytes;
          }
      }
}

// memcpy, run by run.
void bare_gather(const BareRuns& runs, const KvSegment& from, std::byte* payload);
void bare_scatter(const BareRuns& runs, const KvSegment& to, std::byte* payload);

// As our kernels copy, but without their checksum: the next block is prefetched while one is read,
// and what is scattered is stored past the caches where it is long. What a checksum costs is
// measured against these.
void unchecked_gather(const BareRuns& runs, const KvSegment& from, std::byte* payload);
void unchecked_scatter(const BareRuns& runs, const KvSegment& to, std::byte* payload);

}  // namespace baton::bench
