// What an offer must satisfy, alone and against the engine's own prompt. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/protocol/messages.h"
#include "transfer/protocol/segment_map.h"

namespace baton::protocol {

enum class Flow : uint8_t { kPush = 1, kFetch };

// What the engine's own prompt says.
struct Expectation {
  Flow flow = Flow::kPush;
  uint32_t tokens = 0;
  uint32_t chunk_tokens = 0;
  TenantId tenant = 0;             // whose prompt it is
  std::vector<ChunkKey> keys;      // from the decoder's own tokens
  std::vector<GroupOffer> groups;  // what this engine can take: kv_group, head_group, layers,
                                   // token_bytes must be equal; order is the writer's
  TimePoint deadline;              // the request's whole budget
  std::string from;                // the node that is to send, for texts; empty: not known
  bool operator==(const Expectation&) const = default;
};

// Whether the offer is consistent and within the bounds of messages.h; only then may a SegmentMap
// be made of it. kProtocol, naming the value.
Status check_offer(const Offer& offer);

// The first difference between an offer and what the engine expects, both values named.
struct OfferDifference {
  RefuseReason reason;
  std::string text;
};
// In the fetch flow an offer may cover a leading run of whole chunks only.
std::optional<OfferDifference> compare_offer(const Expectation& expected, const Offer& offer);

// Which chunks need not be sent: held in the host tier, or covered wholly by the leading tokens
// that the engine holds (one held in part is sent whole). `held_chunks` is empty or one a chunk.
std::vector<bool> chunks_held(const SegmentMap& map, uint32_t held_tokens,
                              const std::vector<bool>& held_chunks);

// Payload bytes of the largest segment of a chunk that is not held; 0 if all are.
uint64_t largest_needed_segment(const SegmentMap& map, const std::vector<bool>& held);

// Cuts to kMaxText bytes at a UTF-8 boundary.
std::string bounded_text(std::string text);

}  // namespace baton::protocol
