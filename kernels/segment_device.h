// Segments as kernels see them: a plain description that fits into a launch's parameters, and where
// each payload byte lies, by division instead of loops. Host and device code alike; plain data,
// externally synchronised.
#pragma once

#include "kernels/checksum_device.h"
#include "kernels/segment_plan.h"

namespace baton {

// Payloads of one launch must be shorter, so that offsets divide in 32 bits.
inline constexpr uint64_t kMaxLaunchBytes = uint64_t{1} << 31;

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

}  // namespace baton
