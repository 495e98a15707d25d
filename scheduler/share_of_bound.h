// How near a handoff came to the best that compute and transfer side by side could have been.
//
// For compute C, transfer T and L layers that best is max(C,T) + min(C,T)/L: the longer of the two,
// and the other's share of one layer, which nothing hides. T is an estimate, the bytes at the
// pair's best recent rate. A handoff that took less than T has seen a better rate itself, and that
// one counts; of a handoff too small to tell a rate from latency, such an estimate says nothing.
#pragma once

#include <cstdint>
#include <optional>

namespace baton::scheduler {

// A handoff of fewer bytes measures latency, not a rate.
inline constexpr uint64_t kMeasurableBytes = 1u << 20;

struct HandoffTimes {
  double compute_s = 0;  // 0: unknown
  double taken_s = 0;    // from OFFER to the last verified byte
  uint64_t bytes = 0;    // that crossed
  double goodput = 0;    // the pair's best recent one, bytes a second; 0: unknown
  uint32_t layers = 1;
};

// In (0, 1]; nothing where it cannot be said: no bytes, compute or rate unknown, or a handoff that
// shows the rate to be better without being able to measure it.
std::optional<double> share_of_bound(const HandoffTimes& times);

}  // namespace baton::scheduler
