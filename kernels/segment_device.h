// Segments as kernels see them: a plain description that fits into a launch's parameters, where
// each payload byte lies (by division instead of loops), and the loop that every kernel runs.
//
// A worker (a warp of a GPU, a loop on the host) takes whole stripes of a batch of segments, every
// workers-th. Of a stripe each of 32 lanes takes units of 16 bytes: lane l the units l and l + 32.
//
// All of it is host and device code without CUDA's names: the .cu file adds the warp, the host test
// runs every worker and lane in any order. Externally synchronised.
#pragma once

#include <cstring>

#include "kernels/checksum_device.h"
#include "kernels/segment_plan.h"

namespace baton {

inline constexpr uint32_t kLanes = 32;
// What a lane loads and stores at once.
inline constexpr uint32_t kUnitBytes = 16;
inline constexpr uint32_t kUnitsPerLane = kStripeBytes / kLanes / kUnitBytes;
// Payloads of one launch must be shorter, so that offsets divide in 32 bits.
inline constexpr uint64_t kMaxLaunchBytes = uint64_t{1} << 31;

struct alignas(kUnitBytes) Unit {
  uint64_t low = 0;
  uint64_t high = 0;
};

// n / divisor for n < 2^31 by one multiplication.
struct Divider {
  uint32_t divisor = 1;
  uint32_t multiplier = uint32_t{1} << 31;
  uint32_t shift = 31;

  BATON_HD uint32_t divide(uint32_t n) const {
    return static_cast<uint32_t>(uint64_t{n} * multiplier >> shift);
  }
};

// `divisor` in [1, 2^31].
Divider make_divider(uint64_t divisor);

struct DeviceSegment {
  SegmentPlan plan;
  Divider by_outer, by_heads, by_row, by_unit, by_block, by_part_run, by_part_token;
  uint32_t bytes = 0;  // of the payload
  std::byte* base = nullptr;
  const uint32_t* blocks = nullptr;
  std::byte* payload = nullptr;
  ChecksumSeed seed;
};

// What a launch carries as its parameters; 4 KiB is what every driver takes.
inline constexpr uint32_t kBatchSegments = 16;
struct DeviceBatch {
  uint32_t count = 0;
  uint32_t first_stripe[kBatchSegments + 1] = {};  // of each segment, and of all
  DeviceSegment segments[kBatchSegments];
};
static_assert(sizeof(DeviceBatch) <= 4096 - 64);

// A lane's keys: three for each of its units (the second pass's are shifted by one).
struct LaneKeys {
  uint64_t key[kUnitsPerLane][3];
};

BATON_HD inline LaneKeys lane_keys(const NhKeys& keys, uint32_t lane) {
  LaneKeys mine;
  for (uint32_t i = 0; i < kUnitsPerLane; ++i) {
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

// A run of payload bytes in a block, from an offset to the run's end.
struct Place {
  std::byte* at;  // null: no place in the blocks
  uint32_t bytes;
};

namespace internal {

// Within an opaque block of which only some tokens count.
BATON_HD inline Place locate_in_part(const DeviceSegment& s, uint32_t block, std::byte* at,
                                     uint32_t byte) {
  const uint32_t in_run = byte - s.by_part_run.divide(byte) * s.by_part_run.divisor;
  const uint32_t token = s.by_part_token.divide(in_run);
  const uint32_t left = (token + 1) * s.plan.part_token_bytes - in_run;
  const uint32_t global = block * s.plan.part_tokens + token;
  const bool counts = global >= s.plan.part_first && global < s.plan.part_end;
  return {counts ? at + byte : nullptr, left};
}

}  // namespace internal

// Where payload byte `offset` (below bytes) lies, and how many follow it there.
BATON_HD inline Place locate(const DeviceSegment& s, uint32_t offset) {
  const SegmentPlan& p = s.plan;
  const uint32_t outer = s.by_outer.divide(offset);
  const uint32_t plane = s.by_heads.divide(outer);
  uint32_t byte = offset - outer * s.by_outer.divisor;
  const uint32_t token = s.by_row.divide(byte);
  byte -= token * s.by_row.divisor;
  const uint32_t block = s.by_block.divide(token);
  const uint32_t in_block = token - block * p.block_tokens;
  std::byte* at =
      s.base + int64_t{s.blocks[block]} * p.block_stride + int64_t{plane} * p.plane_stride +
      int64_t{outer - plane * p.outer_heads} * p.outer_stride + int64_t{in_block} * p.token_stride;
  if (p.part_runs != 0) return internal::locate_in_part(s, block, at, byte);
  if (token < p.first_token) return {nullptr, s.by_row.divisor - byte};
  if (p.tokens_joined) {
    const uint32_t in_tokens = p.tokens - token;
    const uint32_t to_end = p.block_tokens - in_block;
    const uint32_t joined = in_tokens < to_end ? in_tokens : to_end;
    return {at + byte, joined * s.by_row.divisor - byte};
  }
  const uint32_t head = s.by_unit.divide(byte);
  byte -= head * s.by_unit.divisor;
  return {at + int64_t{head} * p.inner_stride + byte, s.by_unit.divisor - byte};
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
  uint64_t& word = index < 8 ? unit.low : unit.high;
  word |= static_cast<uint64_t>(value) << index % 8 * 8;
}

BATON_HD inline std::byte get_byte(const Unit& unit, uint32_t index) {
  return static_cast<std::byte>((index < 8 ? unit.low : unit.high) >> index % 8 * 8);
}

// What a lane does of one stripe: Body::unit(segment, offset, bytes) copies one unit (of which
// `bytes`, at most 16, exist) and returns it, zero-padded.
template <typename Body>
BATON_HD NhPair lane_stripe(const DeviceSegment& s, const LaneKeys& keys, uint32_t position,
                            uint32_t lane) {
  const uint32_t start = position * static_cast<uint32_t>(kStripeBytes);
  const uint32_t tail_mask = static_cast<uint32_t>(kTailBytes) - 1;
  const uint32_t padded_end = (s.bytes + tail_mask) & ~tail_mask;
  NhPair nh;
  for (uint32_t i = 0; i < kUnitsPerLane; ++i) {
    const uint32_t offset = start + (lane + i * kLanes) * kUnitBytes;
    if (offset >= padded_end) break;
    const uint32_t left = offset < s.bytes ? s.bytes - offset : 0;
    const Unit unit =
        left > 0 ? Body::unit(s, offset, left < kUnitBytes ? left : kUnitBytes) : Unit{};
    nh = nh + nh_unit(unit, keys.key[i]);
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
