#include "scheduler/segment_order.h"

#include <algorithm>
#include <utility>

namespace baton::scheduler {

LayerMajor::LayerMajor(std::span<const uint16_t> layers_of_group, uint32_t chunks)
    : chunks_(chunks) {
  // A run begins at layer 0 and wherever a group ends.
  std::vector<uint16_t> ends(layers_of_group.begin(), layers_of_group.end());
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());

  uint16_t first_layer = 0;
  uint32_t base = 0;
  for (const uint16_t end : ends) {
    Run run{base, first_layer, {}};
    for (size_t group = 0; group < layers_of_group.size(); ++group) {
      if (layers_of_group[group] >= end) run.groups.push_back(static_cast<uint16_t>(group));
    }
    base += (end - first_layer) * chunks_ * static_cast<uint32_t>(run.groups.size());
    first_layer = end;
    runs_.push_back(std::move(run));
  }
}

uint32_t LayerMajor::rank(const SegmentPosition& position) const {
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), position.layer,
                       [](uint16_t layer, const Run& run) { return layer < run.first_layer; });
  const Run& run = *(after - 1);
  const auto width = static_cast<uint32_t>(run.groups.size());
  const auto place = static_cast<uint32_t>(
      std::lower_bound(run.groups.begin(), run.groups.end(), position.group) - run.groups.begin());
  return run.base + ((position.layer - run.first_layer) * chunks_ + position.chunk) * width + place;
}

SegmentPosition LayerMajor::position(uint32_t rank) const {
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), rank,
                                      [](uint32_t r, const Run& run) { return r < run.base; });
  const Run& run = *(after - 1);
  const auto width = static_cast<uint32_t>(run.groups.size());
  const uint32_t within = rank - run.base;
  return {.group = run.groups[within % width],
          .chunk = within / width % chunks_,
          .layer = static_cast<uint16_t>(run.first_layer + within / width / chunks_)};
}

std::optional<size_t> next_to_send(std::span<const SendCandidate> candidates) {
  std::optional<size_t> best;
  const auto rank = [&](size_t i) {
    return std::pair{candidates[i].unacknowledged_bytes, candidates[i].last_sent};
  };
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!best || rank(i) < rank(*best)) best = i;
  }
  return best;
}

}  // namespace baton::scheduler
