// The loop that every kernel runs. A worker (a warp of a GPU, a loop on the host) takes whole
// stripes of a batch of segments, every workers-th. Of a stripe each of 32 lanes takes units of 16
// bytes: lane l the units l and l + 32.
//
// Host and device code without CUDA's names: the .cu file adds the warp, the host test runs every
// worker and lane in any order.
#pragma once

#include <cstring>

#include "kernels/segment_device.h"

// For loops over a lane's units, which stay in registers so.
#ifdef __CUDACC__
#define BATON_UNROLL _Pragma("unroll")
#else
#define BATON_UNROLL
#endif

namespace baton {

inline constexpr uint32_t kLanes = 32;
// What a lane loads and stores at once.
inline constexpr uint32_t kUnitBytes = 16;
inline constexpr uint32_t kUnitsPerLane = kStripeBytes / kLanes / kUnitBytes;

struct alignas(kUnitBytes) Unit {
  uint64_t low = 0;
  uint64_t high = 0;
};

// A lane's keys: three for each of its units (the second pass's are shifted by one).
struct LaneKeys {
  uint64_t key[kUnitsPerLane][3];
};

BATON_HD inline LaneKeys lane_keys(const NhKeys& keys, uint32_t lane) {
  LaneKeys mine;
  BATON_UNROLL for (uint32_t i = 0; i < kUnitsPerLane; ++i) {
    const uint32_t word = (lane + i * kLanes) * 2;
    mine.key[i][0] = keys.first[word];
    mine.key[i][1] = keys.second[word];
    mine.key[i][2] = keys.second[word + 1];
  }
  return mine;
}

BATON_HD inline NhPair nh_unit(const Unit& unit, const uint64_t (&key)[3]) {
  return {nh_product(unit.low, key[0]) + nh_product(unit.high, key[1]),
          nh_product(unit.low, key[1]) + nh_product(unit.high, key[2])};
}

BATON_HD inline bool unit_aligned(const std::byte* at) {
  return reinterpret_cast<uintptr_t>(at) % kUnitBytes == 0;
}

// One 16-byte access of aligned memory.
BATON_HD inline Unit load_unit(const std::byte* at) {
#ifdef __CUDA_ARCH__
  return *reinterpret_cast<const Unit*>(at);
#else
  Unit unit;
  std::memcpy(&unit, at, sizeof unit);
  return unit;
#endif
}

BATON_HD inline void store_unit(std::byte* at, const Unit& unit) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<Unit*>(at) = unit;
#else
  std::memcpy(at, &unit, sizeof unit);
#endif
}

BATON_HD inline void put_byte(Unit& unit, uint32_t index, std::byte value) {
  const uint64_t bits = static_cast<uint64_t>(value) << index % 8 * 8;
  if (index < 8) {
    unit.low |= bits;
  } else {
    unit.high |= bits;
  }
}

BATON_HD inline std::byte get_byte(const Unit& unit, uint32_t index) {
  return static_cast<std::byte>((index < 8 ? unit.low : unit.high) >> index % 8 * 8);
}

// What a lane does of one stripe. Body::load(segment, offset, bytes) brings one unit (of which
// `bytes`, at most 16, exist), zero-padded, from where the body reads; Body::store(segment, offset,
// bytes, unit) puts it where the body writes. All loads go first, so that they are in flight
// together.
template <typename Body>
BATON_HD NhPair lane_stripe(const DeviceSegment& s, const LaneKeys& keys, uint32_t position,
                            uint32_t lane) {
  const uint32_t start = position * static_cast<uint32_t>(kStripeBytes) + lane * kUnitBytes;
  const uint32_t tail_mask = static_cast<uint32_t>(kTailBytes) - 1;
  const uint32_t padded_end = (s.bytes + tail_mask) & ~tail_mask;
  Unit units[kUnitsPerLane];
  uint32_t bytes[kUnitsPerLane];
  BATON_UNROLL for (uint32_t i = 0; i < kUnitsPerLane; ++i) {
    const uint32_t offset = start + i * kLanes * kUnitBytes;
    const uint32_t left = offset < s.bytes ? s.bytes - offset : 0;
    bytes[i] = left < kUnitBytes ? left : kUnitBytes;
    if (bytes[i] > 0) units[i] = Body::load(s, offset, bytes[i]);
  }
  NhPair nh;
  BATON_UNROLL for (uint32_t i = 0; i < kUnitsPerLane; ++i) {
    const uint32_t offset = start + i * kLanes * kUnitBytes;
    if (bytes[i] > 0) Body::store(s, offset, bytes[i], units[i]);
    if (offset < padded_end) nh = nh + nh_unit(units[i], keys.key[i]);
  }
  return nh;
}

// What a worker does of a batch. `team` is its lanes:
//   NhPair team.sum(f)        the sum of f(lane) over the lanes
//   void team.add(sum, value) adds to memory shared with other workers, once for the team
// sums[count] start as zeros and are the checksums when all workers are done.
template <typename Body, typename Team>
BATON_HD void run_worker(const DeviceBatch& batch, uint64_t* sums, uint32_t worker,
                         uint32_t workers, Team& team) {
  uint32_t segment = 0;
  uint64_t sum = 0;
  for (uint32_t stripe = worker; stripe < batch.first_stripe[batch.count]; stripe += workers) {
    while (stripe >= batch.first_stripe[segment + 1]) {
      if (sum != 0) team.add(sums + segment, sum);
      sum = 0;
      ++segment;
    }
    const DeviceSegment& s = batch.segments[segment];
    const uint32_t position = stripe - batch.first_stripe[segment];
    const NhPair nh = team.sum([&](const LaneKeys& keys, uint32_t lane) {
      return lane_stripe<Body>(s, keys, position, lane);
    });
    sum += stripe_value(s.seed, position, nh);
  }
  if (sum != 0) team.add(sums + segment, sum);
  for (uint32_t i = worker; i < batch.count; i += workers) {
    team.add(sums + i, checksum_start(batch.segments[i].seed, batch.segments[i].bytes));
  }
}

}  // namespace baton
