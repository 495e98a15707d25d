// The system that is explored, as bytes: see explore.h.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "tests/transfer/protocol/fixtures.h"

namespace baton::protocol {

// Everything that distinguishes two systems, without padding. Segment sets are bit masks.
struct System {
  uint32_t sender = 0, receiver = 0;                   // 0: not there
  std::array<uint8_t, 12> to_sender{}, to_receiver{};  // messages, oldest first; 0: none
  uint16_t flags = 0;                                  // Flag
  uint8_t computed = 0;                                // segments, in order
  uint8_t gathering = 0;                               // taken, not published
  uint8_t reading = 0;                                 // the source may be read
  uint8_t in_window = 0;                               // the sender's unacknowledged ones
  uint8_t published = 0;                               // ever
  std::array<uint8_t, 2> right_on_channel{}, wrong_on_channel{};  // one copy; a second one
  uint8_t copying_right = 0, copying_wrong = 0;
  uint8_t right = 0;  // right bytes lie in the blocks
  uint8_t sender_end = 0, receiver_end = 0;
  uint8_t lose = 0, repeat = 0, spoil = 0, give_back = 0, stop = 0, cut = 0, crash = 0, early = 0;
  bool operator==(const System&) const = default;
};
static_assert(std::has_unique_object_representations_v<System>);

enum class What : uint8_t {
  kStart,
  // the sender's engine and node
  kQueued,
  kOffer,
  kCompute,
  kTake,
  kGiveBack,
  kPublish,
  kPublishDone,
  kPublishFails,
  kSenderStops,
  kSenderFails,
  kSenderHears,
  kSenderNext,
  kSenderBudget,
  // the receiver's
  kBegin,
  kAccept,
  kRefuse,
  kCopied,
  kReceiverStops,
  kReceiverIsTold,
  kReceiverHears,
  kReceiverNext,
  kReceiverProgress,
  kReceiverBudget,
  // the channel
  kArriveRight,
  kArriveWrong,
  kLose,
  kRepeat,
  kSpoil,
  // the connection
  kCut,
  kSenderNotices,
  kReceiverNotices,
  kConnect,
  kSenderCrashes,
  kReceiverCrashes,
  kSenderRestarts,
  kReceiverRestarts,
};

// Of System::flags.
enum Flag : uint16_t {
  kUp = 1,           // the connection
  kSenderKnows = 2,  // ... that it is down
  kReceiverKnows = 4,
  kSenderStale = 8,  // the machine was told; it takes no part in a new connection
  kReceiverStale = 16,
  kSenderDown = 32,  // crashed
  kReceiverDown = 64,
  kSenderBuried = 128,  // a tombstone where there never was a machine
  kReceiverBuried = 256,
  kSenderQuiet = 512,
  kReceiverQuiet = 1024,
  kSenderDrained = 2048,  // said DRAINED
  kReceiverDrained = 4096,
  kReceiverCommitted = 8192,  // in any life
  kGaveUp = 16384,            // somebody, or something broke: to commit is not the only end left
  kSaidStop = 32768,          // the sender: CANCEL or FAILED
};

constexpr uint8_t bit(uint8_t segment) { return static_cast<uint8_t>(1u << segment); }
inline void add(uint8_t& set, uint8_t segment) { set |= bit(segment); }
inline void remove(uint8_t& set, uint8_t segment) {
  set = static_cast<uint8_t>(set & ~bit(segment));
}
inline bool in(uint8_t set, uint8_t segment) { return (set & bit(segment)) != 0; }
inline uint8_t number(End end) { return static_cast<uint8_t>(end); }

using MessageQueue = std::array<uint8_t, 12>;

inline void push(MessageQueue& queue, uint8_t message) {
  for (uint8_t& place : queue) {
    if (place != 0) continue;
    place = message;
    return;
  }
  BATON_CHECK(false, "more messages in flight than the model has room for");
}

inline uint8_t pop(MessageQueue& queue) {
  const uint8_t message = queue[0];
  for (size_t i = 1; i < queue.size(); ++i) queue[i - 1] = queue[i];
  queue.back() = 0;
  return message;
}

}  // namespace baton::protocol
