// The segment checksum: 64 bits over a payload, seeded with the segment's identity, which a GPU
// grid and vector code compute alike and in any order of pieces. checksum_device.h holds the
// arithmetic; this is its definition. Words are little-endian, + and * are modulo 2^64 (2^32 within
// NH's inner sums), ^ is exclusive or.
//
//   The payload is cut into stripes of 1,024 bytes; the last is zero-padded to a multiple of 64.
//   A stripe is words w_0, w_1, … of 64 bits, each a pair of halves of 32 bits (lo, hi). With the
//   table of keys k_0 … k_128 two passes of NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC,
//   1999; RFC 4418 pairs the halves otherwise), the second with the keys shifted by one
//   (Toeplitz):
//     h1 = sum over j of (lo(w_j) + lo(k_j))     * (hi(w_j) + hi(k_j))
//     h2 = sum over j of (lo(w_j) + lo(k_{j+1})) * (hi(w_j) + hi(k_{j+1}))
//   The value of stripe i (from 0) under a seed (a, b):
//     v_i = mix(mix(h1 ^ mix(a + (i + 1) * G)) ^ (h2 + b)),   G = 0x9e3779b97f4a7c15
//   checksum = mix(mix(bytes + b) ^ a) + sum over i of v_i
//   where mix is the 64-bit finaliser of SplitMix64 (Stafford's variant 13).
//   k_j = mix(kNhKeyStart + (j + 1) * G): SplitMix64 started at kNhKeyStart.
//
// Error bound. Over random keys, two different stripes of equal length have equal (h1, h2) with
// probability at most 2^-64 (Toeplitz NH, 2^-32 for each pass). Folding 128 bits to 64 and summing
// the stripes adds 2^-64 each if mix is taken for a random function, which is an assumption.
// So a damaged, moved, swapped, shortened or foreign segment passes with about 2^-63. Position,
// seed and length enter through mix, not linearly: exchanging stripes, moving one, or the same
// difference in two does not cancel. The keys are public and fixed: this finds accidents, it does
// not stop an adversary who chooses the bytes.
//
// Thread-safe: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace baton {

inline constexpr size_t kStripeBytes = 1024;

// A type of its own so that no other number passes for one.
struct Checksum {
  uint64_t value = 0;
  bool operator==(const Checksum&) const = default;
};

// What a segment is; bytes is its payload's length.
struct SegmentIdentity {
  std::array<uint8_t, 32> key{};  // chunk key
  uint32_t layer = 0;
  uint32_t kv_group = 0;
  uint32_t head_group = 0;
  uint64_t bytes = 0;
};

// 128 bits mixed from an identity. Plain data; goes to kernels by value.
struct ChecksumSeed {
  uint64_t a = 0;
  uint64_t b = 0;
  bool operator==(const ChecksumSeed&) const = default;
};

// Costs tens of nanoseconds.
ChecksumSeed make_seed(const SegmentIdentity& identity);

// Reads each byte once. Memory that somebody else may be changing is better copied out and
// checked in one pass: scatter.
Checksum checksum(const ChecksumSeed& seed, const std::byte* payload, size_t bytes);

}  // namespace baton
