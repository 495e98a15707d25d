// The order in which a sender publishes: layer by layer; within a layer chunk by chunk, and of a
// chunk group by group. rank() and segment() are inverse to each other. Plain value.
#pragma once

#include <cstdint>
#include <vector>

#include "transfer/protocol/segment_map.h"

namespace baton::protocol {

class PublishOrder {
 public:
  PublishOrder() = default;
  explicit PublishOrder(const SegmentMap& map);

  uint32_t rank(const SegmentMap& map, uint32_t segment) const;
  uint32_t segment(const SegmentMap& map, uint32_t rank) const;
  bool operator==(const PublishOrder&) const = default;

 private:
  // Layers are alike in which groups have them, but for where a group ends: one run of layers each.
  struct Run {
    uint32_t base = 0;  // rank of its first segment
    uint16_t first_layer = 0;
    std::vector<uint16_t> groups;  // that have these layers, ascending
    bool operator==(const Run&) const = default;
  };

  std::vector<Run> runs_;  // ascending by layer
  uint32_t chunks_ = 0;
};

}  // namespace baton::protocol
