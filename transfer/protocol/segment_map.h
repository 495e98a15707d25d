// The dense numbering of a handoff's segments: group-major, then chunk, then layer.
//
//   index = group_base[group] + chunk * layers[group] + layer
//
// Both sides compute it from the OFFER alone. Plain value.
#pragma once

#include <cstdint>
#include <vector>

#include "transfer/protocol/messages.h"

namespace baton::protocol {

struct SegmentId {
  uint16_t group = 0;  // index into Offer::groups
  uint32_t chunk = 0;
  uint16_t layer = 0;
  bool operator==(const SegmentId&) const = default;
};

class SegmentMap {
 public:
  SegmentMap() = default;
  // `offer` is within the codec's bounds.
  explicit SegmentMap(const Offer& offer);

  uint32_t segments() const { return segments_; }
  uint32_t chunks() const { return chunks_; }
  uint32_t tokens() const { return tokens_; }
  uint16_t groups() const { return static_cast<uint16_t>(groups_.size()); }
  uint16_t layers(uint16_t group) const { return groups_[group].layers; }
  uint32_t index(SegmentId id) const;
  SegmentId id(uint32_t index) const;
  // Tokens of a chunk: chunk_tokens, or fewer for the tail.
  uint32_t tokens_of_chunk(uint32_t chunk) const;
  uint32_t first_token_of_chunk(uint32_t chunk) const { return chunk * chunk_tokens_; }
  // Payload bytes of a segment as its group was offered.
  uint64_t bytes(uint32_t index) const;
  // One past the highest layer of any group.
  uint16_t max_layers() const;
  bool operator==(const SegmentMap&) const = default;

 private:
  struct Group {
    uint32_t base = 0;
    uint16_t layers = 0;
    uint32_t token_bytes = 0;
    uint32_t opaque_block_tokens = 0;
    bool operator==(const Group&) const = default;
  };
  std::vector<Group> groups_;
  uint32_t segments_ = 0;
  uint32_t chunks_ = 0;
  uint32_t tokens_ = 0;
  uint32_t chunk_tokens_ = 0;
};

}  // namespace baton::protocol
