// One handoff as its receiver sees it: a state machine with no I/O, no clock and no threads.
//
//   kExpecting ── QUEUED ──> kContacted ── OFFER ──> kOffered ── accept() ──> kReceiving
//        └──────────────────── OFFER ──────────────────┘              all verified ──> ended: COMMIT
//                                                           any state ──> ended
//
// Either side may come first: the peer's QUEUED or OFFER (then the machine waits, unclaimed, for
// begin()) or the engine's begin() (then it waits for first contact). In the fetch flow begin()
// sends FETCH. A bitmap of verified segments, never a counter, says when the handoff is complete.
// It ends exactly once (Effects::end); Effects::quiet follows when no copy is under way.
//
// Confined to one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/protocol/effects.h"
#include "transfer/protocol/messages.h"
#include "transfer/protocol/segment_map.h"

namespace baton::protocol {

enum class Flow : uint8_t { kPush = 1, kFetch };

struct ReceiverConfig {
  Duration record_ttl = std::chrono::seconds(30);            // unclaimed: peer came, engine did not
  Duration first_contact_deadline = std::chrono::seconds(2); // begin() to QUEUED, OFFER or MISS
  Duration accept_deadline = std::chrono::seconds(5);        // offered to accept() or refuse()
  Duration progress_deadline = std::chrono::seconds(2);      // of verified bytes, while SENT says something is on its way
  Duration resend_after = std::chrono::milliseconds(200);    // SENT names it, it did not arrive
  uint32_t max_bad_copies = 8;                               // of one segment, then failed
};

// What the engine's own prompt says.
struct Expectation {
  Flow flow = Flow::kPush;
  uint32_t tokens = 0;
  uint32_t chunk_tokens = 0;
  std::vector<ChunkKey> keys;       // from the decoder's own tokens
  std::vector<GroupOffer> groups;   // what this engine can take: kv_group, head_group, layers,
                                    // token_bytes must be equal; order is the writer's
  TimePoint deadline;               // the request's whole budget
};

struct Acceptance {
  uint32_t held_tokens = 0;
  std::vector<bool> held_chunks;  // empty: none
  uint64_t window_bytes = 0;
};

class ReceiverHandoff {
 public:
  enum class State : uint8_t { kExpecting, kContacted, kOffered, kReceiving, kEnded };
  enum class Arrival : uint8_t {
    kCopy,       // copy and verify it now, then copy_done()
    kDuplicate,  // verified or being copied already: drop it
    kUnwanted,   // held, unknown, wrong size, or not receiving: drop it, count it
  };

  ReceiverHandoff(HandoffAttempt handoff, ReceiverConfig config, TimePoint now);

  // --- the local side
  // The engine claims it. If an OFFER already stands it is compared now. Once.
  void begin(TimePoint now, Expectation expectation, Effects& effects);
  void accept(TimePoint now, Acceptance acceptance, Effects& effects);
  void refuse(TimePoint now, RefuseReason reason, std::string text, Effects& effects);
  Arrival on_segment(TimePoint now, uint32_t segment, uint64_t bytes);
  // The copy that on_segment() asked for is over; `verified` says whether the bytes verified.
  void copy_done(TimePoint now, uint32_t segment, bool verified, Effects& effects);
  // Ends as cancelled (CANCEL to the peer).
  void abort(TimePoint now, Status why, Effects& effects);
  // Ends as failed: somebody who knows said that the sender failed.
  void sender_failed(TimePoint now, Status why, Effects& effects);
  void peer_lost(TimePoint now, const Status& why, Effects& effects);
  void advance(TimePoint now, Effects& effects);

  // --- the peer
  void on_message(TimePoint now, const Message& message, Effects& effects);

  // --- queries
  State state() const { return state_; }
  const HandoffAttempt& handoff() const { return handoff_; }
  bool claimed() const { return expectation_.has_value(); }
  const Offer* offer() const { return offer_ ? &*offer_ : nullptr; }
  // Valid once an offer stands.
  const SegmentMap& segments() const { return map_; }
  // Verified here, or held (by the engine or the host tier) so that it need not come.
  bool present(uint32_t segment) const;
  bool verified(uint32_t segment) const;
  // All chunks of this layer, in all groups that have it, are present.
  bool layer_complete(uint16_t layer) const;
  uint32_t verified_segments() const { return verified_count_; }
  uint64_t verified_bytes() const { return verified_bytes_; }
  uint32_t copies_under_way() const { return copying_; }
  std::optional<TimePoint> next_deadline() const;

 private:
  State state_ = State::kExpecting;
  HandoffAttempt handoff_;
  std::optional<Expectation> expectation_;
  std::optional<Offer> offer_;
  SegmentMap map_;
  uint32_t verified_count_ = 0;
  uint64_t verified_bytes_ = 0;
  uint32_t copying_ = 0;
  // (further members are the implementer's)
};

}  // namespace baton::protocol
