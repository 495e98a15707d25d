#include "scheduler/segment_order.h"

#include <utility>

namespace baton::scheduler {

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
