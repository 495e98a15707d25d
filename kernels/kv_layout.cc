#include "kernels/kv_layout.h"

#include <algorithm>
#include <array>
#include <string>

namespace baton {
namespace {

using Wide = __int128;  // counts of 32 bits times strides of 63 do not fit 64

std::string describe(const KvLayout& l) {
  if (l.opaque()) {
    return "opaque_block_bytes " + std::to_string(l.opaque_block_bytes) + ", block_tokens " +
           std::to_string(l.block_tokens) + ", block_stride " + std::to_string(l.block_stride) +
           ", opaque_runs " + std::to_string(l.opaque_runs) + ", opaque_token_bytes " +
           std::to_string(l.opaque_token_bytes);
  }
  return "block_tokens " + std::to_string(l.block_tokens) + ", planes " + std::to_string(l.planes) +
         ", heads " + std::to_string(l.heads) + ", head_bytes " + std::to_string(l.head_bytes) +
         ", strides of block " + std::to_string(l.block_stride) + ", plane " +
         std::to_string(l.plane_stride) + ", head " + std::to_string(l.head_stride) + ", token " +
         std::to_string(l.token_stride);
}

Status refuse(const KvLayout& layout, const std::string& why) {
  return {Code::kInvalidArgument, "KV layout: " + why + " (" + describe(layout) + ")"};
}

Status validate_opaque(const KvLayout& l) {
  if (l.opaque_block_bytes > kMaxBlockBytes) return refuse(l, "the block is larger than 2 GiB");
  if (l.block_stride <= 0 || static_cast<uint64_t>(l.block_stride) < l.opaque_block_bytes) {
    return refuse(l, "blocks overlap");
  }
  if ((l.opaque_runs == 0) != (l.opaque_token_bytes == 0)) {
    return refuse(l, "opaque_runs and opaque_token_bytes go together");
  }
  if (l.opaque_runs != 0 &&
      Wide{l.opaque_runs} * l.block_tokens * l.opaque_token_bytes != Wide{l.opaque_block_bytes}) {
    return refuse(l, "opaque_runs * block_tokens * opaque_token_bytes is not the block's size");
  }
  return ok_status();
}

struct Dimension {
  const char* name;
  uint32_t count;
  int64_t stride;
};

// Strides must nest: seen from the smallest, each must step over everything below it.
Status validate_strides(const KvLayout& l) {
  std::array<Dimension, 3> dimensions{{{"token", l.block_tokens, l.token_stride},
                                       {"head", l.heads, l.head_stride},
                                       {"plane", l.planes, l.plane_stride}}};
  std::sort(dimensions.begin(), dimensions.end(),
            [](const Dimension& a, const Dimension& b) { return a.stride < b.stride; });
  Wide extent = l.head_bytes;  // bytes spanned by the dimensions so far
  bool block_seen = false;
  for (const Dimension& d : dimensions) {
    if (d.count == 1) continue;  // its stride is never used
    if (!block_seen && d.stride > l.block_stride) {
      if (l.block_stride < extent) return refuse(l, "blocks overlap");
      block_seen = true;
    }
    if (d.stride < extent) return refuse(l, std::string(d.name) + "s overlap");
    extent = Wide{d.count - 1} * d.stride + extent;
  }
  if (!block_seen && l.block_stride < extent) return refuse(l, "blocks overlap");
  return ok_status();
}

}  // namespace

Status validate(const KvLayout& l) {
  if (l.block_tokens == 0) return refuse(l, "block_tokens is zero");
  if (l.opaque()) return validate_opaque(l);
  if (l.opaque_runs != 0 || l.opaque_token_bytes != 0) {
    return refuse(l, "opaque_runs or opaque_token_bytes without opaque_block_bytes");
  }
  if (l.planes == 0 || l.heads == 0 || l.head_bytes == 0) {
    return refuse(l, "planes, heads or head_bytes is zero");
  }
  if (l.block_stride < 0 || l.plane_stride < 0 || l.head_stride < 0 || l.token_stride < 0) {
    return refuse(l, "a stride is negative");
  }
  // Two factors at a time: four of 32 bits would not fit 128.
  const Wide token_bytes = Wide{l.heads} * l.head_bytes;
  const Wide block_planes = Wide{l.planes} * l.block_tokens;
  if (token_bytes > Wide{kMaxBlockBytes} || block_planes > Wide{kMaxBlockBytes} ||
      token_bytes * block_planes > Wide{kMaxBlockBytes}) {
    return refuse(l, "the block is larger than 2 GiB");
  }
  return validate_strides(l);
}

uint64_t segment_bytes(const KvLayout& l, uint32_t tokens) {
  if (l.opaque()) return blocks_for(l, tokens) * l.opaque_block_bytes;
  return uint64_t{l.planes} * l.heads * l.head_bytes * tokens;
}

PayloadOrder natural_order(const KvLayout& l) {
  if (l.opaque()) return PayloadOrder::kOpaque;
  const bool heads_joined = l.heads == 1 || l.head_stride == l.head_bytes;
  const int64_t row = heads_joined ? int64_t{l.heads} * l.head_bytes : l.head_bytes;
  const bool rows_joined = heads_joined && (l.block_tokens == 1 || l.token_stride == row);
  const int64_t token_head = rows_joined ? row * l.block_tokens : row;
  const bool tokens_joined = l.block_tokens == 1 || l.token_stride == l.head_bytes;
  const int64_t head_token = int64_t{l.head_bytes} * (tokens_joined ? l.block_tokens : 1);
  return head_token > token_head ? PayloadOrder::kHeadToken : PayloadOrder::kTokenHead;
}

std::pair<KvLayout, int64_t> head_group(const KvLayout& layout, uint32_t first_head,
                                        uint32_t heads) {
  BATON_CHECK(!layout.opaque(), "an opaque block has no heads to take a group of");
  BATON_CHECK(heads > 0 && first_head < layout.heads && heads <= layout.heads - first_head,
              "heads [" + std::to_string(first_head) + ", +" + std::to_string(heads) +
                  ") of a layout of " + std::to_string(layout.heads));
  KvLayout group = layout;
  group.heads = heads;
  return {group, int64_t{first_head} * layout.head_stride};
}

}  // namespace baton
