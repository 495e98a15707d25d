// Which segment a node sends next.
//
// Within a handoff: layer-major, because a decoder that loads layer by layer can use layer 0 of all
// chunks before it needs anything of layer 1. Across handoffs: the one with the fewest
// unacknowledged bytes, so that a small handoff waits at most behind what a large one has published
// already, never behind what it has still to send.
//
// Pure functions of a snapshot and plain values: no clock, no state, no I/O; safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace baton::scheduler {

// Where a segment stands in its handoff.
struct SegmentPosition {
  uint16_t group = 0;  // KV group and head group, numbered by the caller
  uint32_t chunk = 0;  // position in the prompt
  uint16_t layer = 0;  // within the chunk's group
  bool operator==(const SegmentPosition&) const = default;
};

// The order within a handoff: by layer; within a layer by chunk, and of a chunk by group. Numbers
// the segments so, densely from 0; rank() and position() are inverse to each other. Plain value.
// O(log groups) a call.
class LayerMajor {
 public:
  LayerMajor() = default;
  // Of groups with so many layers each, all with `chunks` chunks.
  LayerMajor(std::span<const uint16_t> layers_of_group, uint32_t chunks);

  uint32_t rank(const SegmentPosition& position) const;
  SegmentPosition position(uint32_t rank) const;
  bool operator==(const LayerMajor&) const = default;

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
