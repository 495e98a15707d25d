#include "kernels/segment_plan.h"

#include <string>

namespace baton {
namespace {

SegmentPlan make_opaque_plan(const KvSegment& segment, uint32_t first_token) {
  const KvLayout& layout = segment.layout;
  SegmentPlan plan;
  plan.tokens = blocks_for(layout, segment.tokens);
  plan.unit_bytes = layout.opaque_block_bytes;
  plan.block_stride = layout.block_stride;
  plan.tokens_joined = true;
  if (layout.opaque_runs != 0) {
    plan.part_runs = layout.opaque_runs;
    plan.part_tokens = layout.block_tokens;
    plan.part_token_bytes = layout.opaque_token_bytes;
    plan.part_first = first_token;
    plan.part_end = segment.tokens;
    return plan;
  }
  BATON_CHECK(first_token % layout.block_tokens == 0 || first_token == segment.tokens,
              "first token " + std::to_string(first_token) + " lies within an opaque block of " +
                  std::to_string(layout.block_tokens) + " tokens");
  plan.first_token = blocks_for(layout, first_token);
  return plan;
}

}  // namespace

SegmentPlan make_plan(const KvSegment& segment, PayloadOrder order, uint32_t first_token) {
  const KvLayout& layout = segment.layout;
  BATON_CHECK((order == PayloadOrder::kOpaque) == layout.opaque(),
              "payload order " + std::to_string(static_cast<int>(order)) + " and " +
                  (layout.opaque() ? "an opaque layout" : "a strided layout"));
  BATON_CHECK(first_token <= segment.tokens, "first token " + std::to_string(first_token) + " of " +
                                                 std::to_string(segment.tokens));
  if (layout.opaque()) return make_opaque_plan(segment, first_token);

  SegmentPlan plan;
  plan.planes = layout.planes;
  plan.tokens = segment.tokens;
  plan.block_tokens = layout.block_tokens;
  plan.first_token = first_token;
  plan.unit_bytes = layout.head_bytes;
  plan.block_stride = layout.block_stride;
  plan.plane_stride = layout.plane_stride;
  plan.token_stride = layout.token_stride;
  if (order == PayloadOrder::kHeadToken) {
    plan.outer_heads = layout.heads;
    plan.outer_stride = layout.head_stride;
  } else if (layout.head_stride == layout.head_bytes) {
    plan.unit_bytes *= layout.heads;
  } else {
    plan.inner_heads = layout.heads;
    plan.inner_stride = layout.head_stride;
  }
  plan.tokens_joined =
      plan.inner_heads == 1 &&
      (plan.block_tokens == 1 || plan.token_stride == static_cast<int64_t>(plan.unit_bytes));
  return plan;
}

bool in_long_runs(const KvSegment& segment, PayloadOrder order) {
  constexpr uint64_t kFew = 8;
  const SegmentPlan plan = make_plan(segment, order, 0);
  uint64_t runs = 0;
  bool gaps = false;
  for_each_run(plan, segment.base, segment.blocks, [&](const Run& run) {
    ++runs;
    gaps = gaps || run.at == nullptr;
  });
  return !gaps && (runs <= kFew || plan.bytes() >= runs * kLongRunBytes);
}

}  // namespace baton
