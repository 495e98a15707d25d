// Which segment a node sends next.
//
// Within a handoff: layer-major, because a decoder that loads layer by layer can use layer 0 of all
// chunks before it needs anything of layer 1. Across handoffs: the one with the fewest
// unacknowledged bytes, so that a small handoff waits at most behind what a large one has published
// already, never behind what it has still to send.
//
// Pure functions of a snapshot: no clock, no state, no I/O; safe to call from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <tuple>

namespace baton::scheduler {

struct SegmentPosition {
  uint32_t layer = 0;  // within the chunk's KV group
  uint32_t chunk = 0;  // position in the prompt
  uint32_t group = 0;  // KV group and head group, numbered by the caller
  bool operator==(const SegmentPosition&) const = default;
};

// Orders the ready segments of one handoff, first to send first: for a std::set, a heap or a sort.
struct LayerMajor {
  bool operator()(const SegmentPosition& a, const SegmentPosition& b) const {
    return std::tie(a.layer, a.chunk, a.group) < std::tie(b.layer, b.chunk, b.group);
  }
};

// One handoff of those whose next segment may go now: it is ready and within the window.
struct SendCandidate {
  uint64_t unacknowledged_bytes = 0;  // sent and neither acknowledged nor given up
  uint64_t last_sent = 0;  // sequence number of its last send, 0 before the first; breaks ties
};

// The index of the candidate that sends next; nothing where there is none. O(candidates). Of
// candidates with equally many unacknowledged bytes the one that has waited longest wins, and of
// those the first.
std::optional<size_t> next_to_send(std::span<const SendCandidate> candidates);

}  // namespace baton::scheduler
