// One handoff as its receiver sees it: a state machine with no I/O, no clock and no threads.
//
//   kExpecting ── QUEUED ──> kContacted ── OFFER ──> kOffered ── accept() ──> kReceiving
//        └──────────────────── OFFER ──────────────────┘              all verified ──> ended:
//        COMMIT
//                                                           any state ──> ended
//
// Either side may come first: the peer's QUEUED or OFFER (then the machine waits, unclaimed, for
// begin()) or the engine's begin() (then it waits for first contact). In the fetch flow begin()
// sends FETCH. A bitmap of verified segments, never a counter, says when the handoff is complete.
// It ends exactly once (Effects::end); Effects::quiet follows when no copy is under way.
//
// A copyable value, confined to one thread. Every step costs O(1), but OFFER, accept() and the
// RESEND of what did not come, which walk the segments once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/protocol/effects.h"
#include "transfer/protocol/messages.h"
#include "transfer/protocol/offer.h"
#include "transfer/protocol/segment_map.h"

namespace baton::protocol {

struct ReceiverConfig {
  Duration record_ttl = std::chrono::seconds(30);  // unclaimed: peer came, engine did not
  Duration first_contact_deadline = std::chrono::seconds(2);  // begin() to QUEUED, OFFER or MISS
  Duration accept_deadline = std::chrono::seconds(5);         // offered to accept() or refuse()
  Duration progress_deadline =
      std::chrono::seconds(2);  // of verified bytes, while SENT says something is on its way
  // SENT counts it, it did not come, and for so long nothing has come and no copy was under way.
  // Doubled after each RESEND, until something verifies.
  Duration resend_after = std::chrono::milliseconds(200);
  uint32_t max_bad_copies = 8;  // of one segment, then failed
  bool operator==(const ReceiverConfig&) const = default;
};

struct Acceptance {
  uint32_t held_tokens = 0;       // may be more than the offer covers
  std::vector<bool> held_chunks;  // empty: none; else one a chunk of the offer
  uint64_t window_bytes = 0;      // smaller than a needed segment: the offer is refused (kNoRoom)
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
  // After Effects::offered; nothing if the handoff ended meanwhile.
  void accept(TimePoint now, Acceptance acceptance, Effects& effects);
  // Before accept(); ends as refused.
  void refuse(TimePoint now, RefuseReason reason, std::string text, Effects& effects);
  Arrival on_segment(TimePoint now, uint32_t segment, uint64_t bytes);
  // The copy that on_segment() asked for is over; `verified` says whether the bytes verified.
  void copy_done(TimePoint now, uint32_t segment, bool verified, Effects& effects);
  // Ends as cancelled (CANCEL to the peer).
  void abort(TimePoint now, Status why, Effects& effects);
  // Ends as failed (FAILED to the peer) for what this machine does not see: the sender failed, as
  // somebody who knows says, or this side did: a copy into the engine's blocks, the node's end.
  void fail(TimePoint now, Status why, Effects& effects);
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
  // Verified here, or held (by the engine or the host tier) so that it need not come. These three
  // are false before accept().
  bool present(uint32_t segment) const;
  bool verified(uint32_t segment) const;
  // All chunks of this layer, in all groups that have it, are present.
  bool layer_complete(uint16_t layer) const;
  uint32_t verified_segments() const { return verified_count_; }
  uint64_t verified_bytes() const { return verified_bytes_; }
  uint32_t copies_under_way() const { return copying_; }
  std::optional<TimePoint> next_deadline() const;
  bool quiet() const { return quiet_; }
  // The peer said that it neither reads nor writes for this handoff any more (DRAINED).
  bool peer_drained() const { return peer_drained_; }

  bool operator==(const ReceiverHandoff&) const = default;

 private:
  static bool bit(const std::vector<uint64_t>& words, uint32_t i) {
    return (words[i / 64] >> (i % 64) & 1) != 0;
  }
  void on_offer(TimePoint now, const Offer& offer, Effects& effects);
  void on_sent(TimePoint now, const Sent& sent, Effects& effects);
  void compare(TimePoint now, Effects& effects);
  void on_verified(TimePoint now, uint32_t segment, Effects& effects);
  void on_bad_copy(TimePoint now, uint32_t segment, Effects& effects);
  void ask_for_missing(TimePoint now, Effects& effects);
  // Published as far as SENT says, neither verified nor being copied.
  bool missing() const { return sent_ > verified_count_ + copying_; }
  bool waits_for_contact() const;
  std::optional<TimePoint> resend_at() const;
  std::optional<TimePoint> progress_by() const;
  void finish(End end, Status why, Effects& effects);
  void expire(std::string what, Effects& effects);
  void end_failed(Code code, std::string text, Effects& effects);
  void unexpected(const Message& message, Effects& effects);
  void become_quiet_if_done(Effects& effects);

  State state_ = State::kExpecting;
  HandoffAttempt handoff_;
  ReceiverConfig config_;
  TimePoint created_at_;
  std::optional<Expectation> expectation_;
  std::optional<Offer> offer_;
  SegmentMap map_;

  std::vector<bool> held_;                   // one a chunk
  std::vector<uint64_t> verified_;           // bitmap of segments
  std::vector<uint64_t> copying_bits_;       // bitmap of segments
  std::vector<uint32_t> layer_missing_;      // needed and not verified, one a layer
  std::map<uint32_t, uint32_t> bad_copies_;  // of segments that had any

  bool quiet_ = false;
  bool peer_drained_ = false;
  bool drained_owed_ = false;
  uint32_t needed_ = 0;
  uint32_t verified_count_ = 0;
  uint64_t verified_bytes_ = 0;
  uint32_t copying_ = 0;
  uint32_t sent_ = 0;     // as the last SENT said
  uint32_t resends_ = 0;  // of what did not come, since something verified
  TimePoint begun_at_;
  TimePoint offered_at_;   // Effects::offered
  TimePoint progress_at_;  // something verified, or SENT first counted more than is verified
  TimePoint stirred_at_;   // SENT, arrival, end of a copy, RESEND
};

// For people: logs, errors, /debug/handoffs.
const char* state_name(ReceiverHandoff::State state);

}  // namespace baton::protocol
