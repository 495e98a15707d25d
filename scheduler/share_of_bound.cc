#include "scheduler/share_of_bound.h"

#include <algorithm>

namespace baton::scheduler {

std::optional<double> share_of_bound(const HandoffTimes& times) {
  if (times.bytes == 0 || times.layers == 0) return std::nullopt;
  if (!(times.compute_s > 0) || !(times.goodput > 0)) return std::nullopt;
  // The OFFER leaves when compute begins, but may come late: compute is part of what was taken.
  const double taken_s = std::max(times.taken_s, times.compute_s);
  double transfer_s = static_cast<double>(times.bytes) / times.goodput;
  if (transfer_s > taken_s) {
    if (times.bytes < kMeasurableBytes) return std::nullopt;
    transfer_s = taken_s;
  }
  const double bound_s =
      std::max(times.compute_s, transfer_s) + std::min(times.compute_s, transfer_s) / times.layers;
  // What was reached was possible: no bound is above it.
  return std::min(1.0, bound_s / taken_s);
}

}  // namespace baton::scheduler
