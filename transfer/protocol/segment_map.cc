#include "transfer/protocol/segment_map.h"

#include <algorithm>

#include "transfer/base/check.h"

namespace baton::protocol {

SegmentMap::SegmentMap(const Offer& offer)
    : chunks_(static_cast<uint32_t>(offer.keys.size())),
      tokens_(offer.tokens),
      chunk_tokens_(offer.chunk_tokens) {
  groups_.reserve(offer.groups.size());
  for (const GroupOffer& group : offer.groups) {
    groups_.push_back({.base = segments_,
                       .layers = group.layers,
                       .token_bytes = group.token_bytes,
                       .opaque_block_tokens = group.opaque_block_tokens});
    segments_ += chunks_ * group.layers;
  }
}

uint32_t SegmentMap::index(SegmentId id) const {
  const Group& group = groups_[id.group];
  return group.base + id.chunk * group.layers + id.layer;
}

SegmentId SegmentMap::id(uint32_t index) const {
  BATON_CHECK(index < segments_, "no such segment");
  const auto after =
      std::upper_bound(groups_.begin(), groups_.end(), index,
                       [](uint32_t i, const Group& group) { return i < group.base; });
  const Group& group = *(after - 1);
  const uint32_t within = index - group.base;
  return {.group = static_cast<uint16_t>(after - 1 - groups_.begin()),
          .chunk = within / group.layers,
          .layer = static_cast<uint16_t>(within % group.layers)};
}

uint32_t SegmentMap::tokens_of_chunk(uint32_t chunk) const {
  return std::min(chunk_tokens_, tokens_ - first_token_of_chunk(chunk));
}

uint64_t SegmentMap::bytes(uint32_t index) const {
  const SegmentId segment = id(index);
  const Group& group = groups_[segment.group];
  uint64_t units = tokens_of_chunk(segment.chunk);
  if (group.opaque_block_tokens != 0) {
    units = (units + group.opaque_block_tokens - 1) / group.opaque_block_tokens;
  }
  return units * group.token_bytes;
}

uint16_t SegmentMap::max_layers() const {
  uint16_t layers = 0;
  for (const Group& group : groups_) layers = std::max(layers, group.layers);
  return layers;
}

}  // namespace baton::protocol
