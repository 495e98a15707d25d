#include "tests/kernels/cases.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

namespace baton::cases {

Geometry random_geometry(Rng& rng) {
  Geometry g{pick(rng, 1, 3), choose<uint32_t>(rng, {1, 1, 2, 3, 4, 5, 8}), 0, 0};
  g.head_bytes = choose<uint32_t>(rng, {1, 2, 3, 7, 8, 16, 24, 33, 64, 100, 128, 256, 576, 1152});
  // Mostly some KiB a case, so that there are stripes within runs and stripes across runs.
  const uint32_t most = std::max(1u, 48u * 1024 / (g.planes * g.heads * g.head_bytes));
  g.tokens = pick(rng, 1, std::min(most, 150u));
  return g;
}

Shape random_shape(Rng& rng, const Geometry& geometry) {
  Shape shape;
  KvLayout& l = shape.layout;
  l.planes = geometry.planes;
  l.heads = geometry.heads;
  l.head_bytes = geometry.head_bytes;
  l.block_tokens = choose<uint32_t>(rng, {1, 2, 3, 5, 8, 16, 16, 32, 64});
  const uint32_t needed = blocks_for(l, geometry.tokens);
  shape.block_count = needed + pick(rng, 1, 3);

  struct Dimension {
    uint32_t count;
    int64_t* stride;
  };
  std::array<Dimension, 4> nested{{{l.block_tokens, &l.token_stride},
                                   {l.heads, &l.head_stride},
                                   {l.planes, &l.plane_stride},
                                   {shape.block_count, &l.block_stride}}};
  // The layouts that engines use come up as often as all others.
  if (pick(rng, 0, 1) == 0) {
    std::shuffle(nested.begin(), nested.end(), rng);
  } else {
    if (pick(rng, 0, 1) == 0) std::swap(nested[2], nested[3]);
    std::swap(nested[0], nested[pick(rng, 0, 1)]);
  }
  int64_t extent = l.head_bytes;
  for (const Dimension& d : nested) {
    *d.stride = extent + (pick(rng, 0, 3) == 0 ? pick(rng, 1, 70) : 0);
    extent += *d.stride * (d.count - 1);
  }
  shape.memory_bytes = extent;
  return shape;
}

Shape random_opaque_shape(Rng& rng, uint32_t tokens) {
  Shape shape;
  KvLayout& l = shape.layout;
  l.block_tokens = choose<uint32_t>(rng, {1, 3, 16, 32});
  if (pick(rng, 0, 1) == 0) {
    l.opaque_runs = pick(rng, 1, 5);
    l.opaque_token_bytes = choose<uint32_t>(rng, {1, 7, 64, 192});
    l.opaque_block_bytes = uint64_t{l.opaque_runs} * l.opaque_token_bytes * l.block_tokens;
  } else {
    l.opaque_block_bytes = pick(rng, 1, 5000);
  }
  l.block_stride = static_cast<int64_t>(l.opaque_block_bytes) + choose<int64_t>(rng, {0, 0, 13});
  shape.block_count = blocks_for(l, tokens) + pick(rng, 1, 3);
  shape.memory_bytes = l.block_stride * (shape.block_count - 1) + l.opaque_block_bytes;
  return shape;
}

Memory::Memory(Rng& rng, const Shape& shape, uint32_t tokens)
    : shape_(shape),
      tokens_(tokens),
      misaligned_(choose<uint32_t>(rng, {0, 0, 1, 8, 16})),
      blocks_(shape.block_count),
      bytes_(random_bytes(rng, misaligned_ + shape.memory_bytes)) {
  std::iota(blocks_.begin(), blocks_.end(), 0u);
  std::shuffle(blocks_.begin(), blocks_.end(), rng);
  blocks_.resize(blocks_for(shape.layout, tokens));
  blocks_.shrink_to_fit();
}

KvSegment Memory::segment() {
  return {bytes_.data() + misaligned_, shape_.layout, blocks_.data(), tokens_};
}

std::vector<std::byte> random_bytes(Rng& rng, size_t size) {
  std::vector<std::byte> bytes(size);
  size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    const uint64_t word = rng();
    std::memcpy(bytes.data() + i, &word, 8);
  }
  for (; i < size; ++i) bytes[i] = static_cast<std::byte>(rng());
  return bytes;
}

Batch random_batch(Rng& rng, uint32_t most) {
  Batch batch;
  const uint32_t count = choose<uint32_t>(rng, {1, 1, 2, 3, most});
  for (uint32_t i = 0; i < count; ++i) {
    const Geometry geometry = random_geometry(rng);
    const bool opaque = pick(rng, 0, 3) == 0;
    batch.memories.emplace_back(
        rng, opaque ? random_opaque_shape(rng, geometry.tokens) : random_shape(rng, geometry),
        geometry.tokens);
  }
  for (Memory& memory : batch.memories) {
    LaunchSegment s{memory.segment(), PayloadOrder::kOpaque, {rng(), rng()}};
    const KvLayout& layout = s.segment.layout;
    if (!layout.opaque()) {
      s.order = choose(rng, {PayloadOrder::kTokenHead, PayloadOrder::kHeadToken});
    }
    s.first_token = pick(rng, 0, 1) == 0 ? 0 : pick(rng, 0, s.segment.tokens);
    if (layout.opaque() && layout.opaque_runs == 0 && s.first_token != s.segment.tokens) {
      s.first_token -= s.first_token % layout.block_tokens;
    }
    // Now and then not a multiple of 16, so that units are put together from bytes.
    const uint32_t shift = choose<uint32_t>(rng, {0, 0, 1, 8});
    batch.payloads.push_back(random_bytes(rng, shift + segment_bytes(layout, s.segment.tokens)));
    s.payload = batch.payloads.back().data() + shift;
    batch.segments.push_back(s);
  }
  return batch;
}

std::string describe(const KvSegment& segment) {
  const KvLayout& l = segment.layout;
  std::string text = std::to_string(segment.tokens) + " tokens in blocks of " +
                     std::to_string(l.block_tokens) + ", stride " + std::to_string(l.block_stride);
  if (l.opaque()) {
    return text + ", opaque " + std::to_string(l.opaque_block_bytes) + ", " +
           std::to_string(l.opaque_runs) + " runs of " + std::to_string(l.opaque_token_bytes);
  }
  return text + ", planes " + std::to_string(l.planes) + "@" + std::to_string(l.plane_stride) +
         ", heads " + std::to_string(l.heads) + "@" + std::to_string(l.head_stride) + ", tokens @" +
         std::to_string(l.token_stride) + ", head_bytes " + std::to_string(l.head_bytes);
}

}  // namespace baton::cases
