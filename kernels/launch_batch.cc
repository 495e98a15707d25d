#include "kernels/launch_batch.h"

#include <bit>
#include <string>

namespace baton {
namespace {

Status check(const LaunchSegment& s) {
  BATON_RETURN_IF_ERROR(validate(s.segment.layout));
  const KvLayout& layout = s.segment.layout;
  if ((s.order == PayloadOrder::kOpaque) != layout.opaque()) {
    return {Code::kInvalidArgument, "payload order " + std::to_string(static_cast<int>(s.order)) +
                                        " for " + (layout.opaque() ? "an opaque" : "a strided") +
                                        " layout"};
  }
  if (s.first_token > s.segment.tokens) {
    return {Code::kInvalidArgument, "first token " + std::to_string(s.first_token) + " of " +
                                        std::to_string(s.segment.tokens)};
  }
  if (layout.opaque() && layout.opaque_runs == 0 && s.first_token != s.segment.tokens &&
      s.first_token % layout.block_tokens != 0) {
    return {Code::kInvalidArgument, "first token " + std::to_string(s.first_token) +
                                        " lies within an opaque block of " +
                                        std::to_string(layout.block_tokens) + " tokens"};
  }
  return ok_status();
}

DeviceSegment make_device_segment(const LaunchSegment& from) {
  DeviceSegment s;
  s.plan = make_plan(from.segment, from.order, from.first_token);
  const SegmentPlan& plan = s.plan;
  s.by_outer = make_divider(std::max<uint64_t>(plan.outer_bytes(), 1));
  s.by_heads = make_divider(plan.outer_heads);
  s.by_row = make_divider(plan.row_bytes());
  s.by_unit = make_divider(plan.unit_bytes);
  s.by_block = make_divider(plan.block_tokens);
  if (plan.part_runs != 0) {
    s.by_part_run = make_divider(uint64_t{plan.part_tokens} * plan.part_token_bytes);
    s.by_part_token = make_divider(plan.part_token_bytes);
  }
  s.bytes = static_cast<uint32_t>(plan.bytes());
  s.base = from.segment.base;
  s.blocks = from.segment.blocks;
  s.payload = from.payload;
  s.seed = from.seed;
  return s;
}

}  // namespace

// With s = ceil(log2(d)) and m = ceil(2^(31+s) / d), m exceeds 2^(31+s) / d by less than 1, so that
// for n < 2^31 the product errs by less than 1/d and the quotient is exact.
Divider make_divider(uint64_t divisor) {
  BATON_CHECK(divisor >= 1 && divisor <= uint64_t{1} << 31, std::to_string(divisor));
  const auto log = static_cast<uint32_t>(std::bit_width(divisor - 1));
  const uint64_t power = uint64_t{1} << (31 + log);
  return {static_cast<uint32_t>(divisor), static_cast<uint32_t>((power + divisor - 1) / divisor),
          31 + log};
}

Result<DeviceBatch> make_batch(std::span<const LaunchSegment> segments) {
  if (segments.size() > kBatchSegments) {
    return Status(Code::kInvalidArgument, std::to_string(segments.size()) +
                                              " segments in a batch of at most " +
                                              std::to_string(kBatchSegments));
  }
  DeviceBatch batch;
  uint64_t total = 0;
  for (const LaunchSegment& segment : segments) {
    BATON_RETURN_IF_ERROR(check(segment));
    const uint64_t bytes = segment_bytes(segment.segment.layout, segment.segment.tokens);
    total += bytes;
    if (total >= kMaxLaunchBytes) {
      return Status(Code::kInvalidArgument, "a batch of " + std::to_string(total) +
                                                " payload bytes; it must be below 2 GiB");
    }
    batch.segments[batch.count] = make_device_segment(segment);
    const auto stripes = static_cast<uint32_t>((bytes + kStripeBytes - 1) / kStripeBytes);
    batch.first_stripe[batch.count + 1] = batch.first_stripe[batch.count] + stripes;
    ++batch.count;
  }
  return batch;
}

}  // namespace baton
