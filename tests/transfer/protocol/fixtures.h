// Offers, expectations and steps that the protocol's tests share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "transfer/protocol/receiver_handoff.h"
#include "transfer/protocol/sender_handoff.h"

namespace baton::protocol {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

inline const TimePoint kStart = TimePoint(std::chrono::hours(1));
inline constexpr Duration kBudget = seconds(30);

inline HandoffAttempt some_handoff() { return {.id = {{1, 2, 3, 4}}, .attempt = 2}; }

inline ChunkKey some_key(uint32_t i) {
  ChunkKey key;
  key.bytes.fill(static_cast<uint8_t>(0xa0 + i));
  key.bytes[0] = static_cast<uint8_t>(i >> 8);
  return key;
}

inline std::vector<ChunkKey> some_keys(uint32_t count) {
  std::vector<ChunkKey> keys;
  for (uint32_t i = 0; i < count; ++i) keys.push_back(some_key(i));
  return keys;
}

inline GroupOffer some_group(uint16_t kv_group, uint16_t layers, uint32_t token_bytes = 4) {
  return {.kv_group = kv_group, .layers = layers, .token_bytes = token_bytes};
}

// One group, unless more are given; chunks of 16 tokens.
inline Offer some_offer(uint32_t tokens, uint16_t layers, std::vector<GroupOffer> groups = {}) {
  if (groups.empty()) groups.push_back(some_group(0, layers));
  return {.handoff = some_handoff(),
          .tokens = tokens,
          .chunk_tokens = 16,
          .groups = std::move(groups),
          .keys = some_keys((tokens + 15) / 16)};
}

inline Expectation expectation_of(const Offer& offer, Flow flow = Flow::kPush) {
  return {.flow = flow,
          .tokens = offer.tokens,
          .chunk_tokens = offer.chunk_tokens,
          .keys = offer.keys,
          .groups = offer.groups,
          .deadline = kStart + kBudget};
}

inline Accept some_accept(const Offer& offer, uint64_t window_bytes = 1 << 20,
                          uint32_t held_tokens = 0) {
  return {.handoff = offer.handoff,
          .held_tokens = held_tokens,
          .held_chunks = std::vector<bool>(offer.keys.size()),
          .window_bytes = window_bytes};
}

inline Ack ack_of(std::vector<uint32_t> segments) {
  Ack ack{.handoff = some_handoff()};
  const uint32_t last = *std::max_element(segments.begin(), segments.end());
  ack.words.resize(last / 64 + 1);
  for (const uint32_t segment : segments) ack.words[segment / 64] |= uint64_t{1} << segment % 64;
  return ack;
}

inline std::vector<std::string> names(const Effects& effects) {
  std::vector<std::string> names;
  for (const Message& message : effects.messages) names.emplace_back(message_name(message));
  return names;
}

template <typename M>
const M* find(const Effects& effects) {
  for (const Message& message : effects.messages) {
    if (const M* found = std::get_if<M>(&message)) return found;
  }
  return nullptr;
}

// One message of every kind that belongs to a handoff.
inline std::vector<Message> one_of_each(const Offer& offer) {
  const HandoffAttempt h = offer.handoff;
  return {Queued{h},
          offer,
          some_accept(offer),
          Refuse{h, RefuseReason::kNoRoom, "full"},
          Sent{h, 1, false},
          ack_of({0}),
          Resend{h, {0}},
          Commit{h},
          Failed{h, Code::kInternal, "broken"},
          Cancel{h, "stop"},
          Drained{h},
          Fetch{h, offer.tokens, 7, offer.keys, 1000},
          Miss{h}};
}

}  // namespace baton::protocol
