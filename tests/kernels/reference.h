// The plainest possible gather, scatter and checksum, byte by byte and straight from the
// definitions in kv_layout.h and checksum.h, sharing no code with the kernels.
#pragma once

#include "kernels/checksum.h"
#include "kernels/kv_layout.h"

namespace baton::reference {

// Address of a payload byte, or null where it has no place in the blocks.
inline std::byte* address(const KvSegment& segment, PayloadOrder order, uint32_t first_token,
                          uint64_t offset) {
  const KvLayout& l = segment.layout;
  if (l.opaque()) {
    const uint64_t block = offset / l.opaque_block_bytes;
    const uint64_t byte = offset % l.opaque_block_bytes;
    uint64_t token = block * l.block_tokens;
    if (l.opaque_runs != 0) {
      token += byte % (uint64_t{l.block_tokens} * l.opaque_token_bytes) / l.opaque_token_bytes;
    }
    if (token < first_token || token >= segment.tokens) return nullptr;
    return segment.base + segment.blocks[block] * l.block_stride + byte;
  }
  const uint64_t dim = offset % l.head_bytes;
  uint64_t rest = offset / l.head_bytes;
  uint64_t head, token;
  if (order == PayloadOrder::kTokenHead) {
    head = rest % l.heads, rest /= l.heads;
    token = rest % segment.tokens, rest /= segment.tokens;
  } else {
    token = rest % segment.tokens, rest /= segment.tokens;
    head = rest % l.heads, rest /= l.heads;
  }
  const uint64_t plane = rest;
  if (token < first_token) return nullptr;
  return segment.base + segment.blocks[token / l.block_tokens] * l.block_stride +
         plane * l.plane_stride + head * l.head_stride + token % l.block_tokens * l.token_stride +
         dim;
}

inline void gather(const KvSegment& from, PayloadOrder order, std::byte* payload) {
  for (uint64_t i = 0; i < segment_bytes(from.layout, from.tokens); ++i) {
    const std::byte* at = address(from, order, 0, i);
    payload[i] = at != nullptr ? *at : std::byte{0};
  }
}

inline void scatter(const KvSegment& to, PayloadOrder order, const std::byte* payload,
                    uint32_t first_token) {
  for (uint64_t i = 0; i < segment_bytes(to.layout, to.tokens); ++i) {
    std::byte* at = address(to, order, first_token, i);
    if (at != nullptr) *at = payload[i];
  }
}

inline uint64_t mix(uint64_t x) {
  x ^= x >> 30, x *= 0xbf58476d1ce4e5b9;
  x ^= x >> 27, x *= 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

inline uint32_t half(const std::byte* payload, uint64_t bytes, uint64_t at) {
  uint32_t value = 0;
  for (uint64_t i = 0; i < 4; ++i) {
    if (at + i < bytes) value |= static_cast<uint32_t>(payload[at + i]) << (8 * i);
  }
  return value;
}

inline Checksum checksum(const ChecksumSeed& seed, const std::byte* payload, uint64_t bytes) {
  constexpr uint64_t kG = 0x9e3779b97f4a7c15;
  const auto key = [](uint64_t j) { return mix(0x6261746f6e204e48 + (j + 1) * kG); };
  const auto term = [](uint32_t lo, uint32_t hi, uint64_t k) {
    return uint64_t{lo + static_cast<uint32_t>(k)} * uint32_t{hi + static_cast<uint32_t>(k >> 32)};
  };
  uint64_t sum = mix(mix(bytes + seed.b) ^ seed.a);
  for (uint64_t i = 0; i * 1024 < bytes; ++i) {
    const uint64_t left = bytes - i * 1024;
    const uint64_t words = left >= 1024 ? 128 : (left + 63) / 64 * 8;
    uint64_t h1 = 0, h2 = 0;
    for (uint64_t j = 0; j < words; ++j) {
      const uint32_t lo = half(payload, bytes, i * 1024 + j * 8);
      const uint32_t hi = half(payload, bytes, i * 1024 + j * 8 + 4);
      h1 += term(lo, hi, key(j));
      h2 += term(lo, hi, key(j + 1));
    }
    sum += mix(mix(h1 ^ mix(seed.a + (i + 1) * kG)) ^ (h2 + seed.b));
  }
  return {sum};
}

}  // namespace baton::reference
