#include "transfer/protocol/publish_order.h"

#include <algorithm>

namespace baton::protocol {

PublishOrder::PublishOrder(const SegmentMap& map) : chunks_(map.chunks()) {
  std::vector<uint16_t> ends;  // a run begins at layer 0 and wherever a group ends
  for (uint16_t group = 0; group < map.groups(); ++group) ends.push_back(map.layers(group));
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());

  uint16_t first_layer = 0;
  uint32_t base = 0;
  for (const uint16_t end : ends) {
    Run run{base, first_layer, {}};
    for (uint16_t group = 0; group < map.groups(); ++group) {
      if (map.layers(group) >= end) run.groups.push_back(group);
    }
    base += (end - first_layer) * chunks_ * static_cast<uint32_t>(run.groups.size());
    first_layer = end;
    runs_.push_back(std::move(run));
  }
}

uint32_t PublishOrder::rank(const SegmentMap& map, uint32_t segment) const {
  const SegmentId id = map.id(segment);
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), id.layer,
                       [](uint16_t layer, const Run& run) { return layer < run.first_layer; });
  const Run& run = *(after - 1);
  const auto width = static_cast<uint32_t>(run.groups.size());
  const auto place = static_cast<uint32_t>(
      std::lower_bound(run.groups.begin(), run.groups.end(), id.group) - run.groups.begin());
  return run.base + ((id.layer - run.first_layer) * chunks_ + id.chunk) * width + place;
}

uint32_t PublishOrder::segment(const SegmentMap& map, uint32_t rank) const {
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), rank,
                                      [](uint32_t r, const Run& run) { return r < run.base; });
  const Run& run = *(after - 1);
  const auto width = static_cast<uint32_t>(run.groups.size());
  const uint32_t within = rank - run.base;
  return map.index({.group = run.groups[within % width],
                    .chunk = within / width % chunks_,
                    .layer = static_cast<uint16_t>(run.first_layer + within / width / chunks_)});
}

}  // namespace baton::protocol
