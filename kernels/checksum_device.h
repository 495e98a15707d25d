// The checksum's arithmetic (defined in checksum.h), shared by scalar code, vector code and device
// code. Nothing here touches payload memory.
#pragma once

#include "kernels/checksum.h"
#include "kernels/kv_layout.h"

namespace baton {

inline constexpr size_t kStripeWords = kStripeBytes / sizeof(uint64_t);
// The last stripe is zero-padded to a multiple of this.
inline constexpr size_t kTailBytes = 64;
inline constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;      // 2^64 / golden ratio, odd
inline constexpr uint64_t kNhKeyStart = 0x6261746f6e204e48;  // "baton NH"

// Finaliser of SplitMix64 (Stafford's variant 13): a bijection of 64 bits.
BATON_HD constexpr uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Both passes' keys as aligned arrays: second[j] is first[j + 1].
struct NhKeys {
  alignas(64) uint64_t first[kStripeWords];
  alignas(64) uint64_t second[kStripeWords];
};

constexpr NhKeys make_nh_keys() {
  NhKeys keys{};
  for (size_t j = 0; j <= kStripeWords; ++j) {
    const uint64_t key = mix(kNhKeyStart + (j + 1) * kGolden);
    if (j < kStripeWords) keys.first[j] = key;
    if (j > 0) keys.second[j - 1] = key;
  }
  return keys;
}

inline constexpr NhKeys kNhKeys = make_nh_keys();

// NH of (part of) a stripe: both passes. Parts of a stripe add up in any order.
struct NhPair {
  uint64_t h1 = 0;
  uint64_t h2 = 0;
};

BATON_HD constexpr NhPair operator+(const NhPair& x, const NhPair& y) {
  return {x.h1 + y.h1, x.h2 + y.h2};
}

BATON_HD constexpr uint64_t nh_product(uint64_t word, uint64_t key) {
  const uint32_t lo = static_cast<uint32_t>(word) + static_cast<uint32_t>(key);
  const uint32_t hi = static_cast<uint32_t>(word >> 32) + static_cast<uint32_t>(key >> 32);
  return uint64_t{lo} * hi;
}

BATON_HD constexpr uint64_t stripe_value(const ChecksumSeed& seed, uint64_t position, NhPair nh) {
  const uint64_t first = mix(nh.h1 ^ mix(seed.a + (position + 1) * kGolden));
  return mix(first ^ (nh.h2 + seed.b));
}

// What the sum over the stripes' values starts from.
BATON_HD constexpr uint64_t checksum_start(const ChecksumSeed& seed, uint64_t bytes) {
  return mix(mix(bytes + seed.b) ^ seed.a);
}

}  // namespace baton
