// One handoff as its sender sees it: a state machine with no I/O, no clock and no threads.
// Time comes in with every call, messages to the peer go out through Effects, and segments are
// pulled by whoever owns the channel.
//
//   kNew ── queued() ──> kQueued ── offer() ──> kOffered ── ACCEPT ──> kSending ── COMMIT ──> ended
//     └────────────────── offer() ────────────────┘             any state ──> ended
//
// It ends exactly once (Effects::end). After the end nothing is taken; when the last publish that
// was under way has come back (publish_done) Effects::quiet is set, once: from then on nothing of
// this handoff reads the engine's blocks.
//
// A copyable value, confined to one thread. Every step costs O(1) to O(log segments), but ACCEPT
// and a RESEND that names nothing, which walk the segments once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/segment_order.h"
#include "transfer/base/clock.h"
#include "transfer/protocol/effects.h"
#include "transfer/protocol/index_set.h"
#include "transfer/protocol/messages.h"
#include "transfer/protocol/segment_map.h"

namespace baton::protocol {

struct SenderConfig {
  // From OFFER to ACCEPT or REFUSE. More than all that the receiver may take before it refuses by
  // itself: an offer waits for its request (record_ttl), then for the engine (accept_deadline).
  Duration accept_deadline = std::chrono::seconds(36);
  // Between ACKs while something is on the wire; and without a publish while nothing is, though
  // something is ready within the window: a handoff that finds no memory to send from ends too.
  Duration progress_deadline = std::chrono::seconds(2);
  Duration commit_deadline = std::chrono::seconds(2);  // from the last ACK to COMMIT
  uint32_t max_publishes_per_segment = 8;              // first time and RESENDs; 1 to 255
  bool operator==(const SenderConfig&) const = default;
};

class SenderHandoff {
 public:
  enum class State : uint8_t { kNew, kQueued, kOffered, kSending, kEnded };

  // `deadline`: the request's whole budget.
  SenderHandoff(HandoffAttempt handoff, SenderConfig config, TimePoint deadline);

  // --- the local side. After the end all of it does nothing but count publishes that come back.
  // The request waits in the engine: QUEUED.
  void queued(TimePoint now, Effects& effects);
  // Prefill begins (or a FETCH is answered): OFFER. Once. An offer that breaks check_offer() ends
  // the handoff as failed.
  void offer(TimePoint now, Offer offer, Effects& effects);
  // The segment's bytes are there to be gathered or sent. In any state after offer(); a segment
  // that the receiver holds is simply never taken. Twice is once.
  void segment_ready(TimePoint now, uint32_t segment);
  // The next segment to publish within the window, layer-major, RESENDs first; the caller gathers
  // and publishes it, or gives it back. A segment is never taken while an earlier publish of it is
  // under way.
  std::optional<uint32_t> take();
  // Nothing was published (no staging memory now) and nothing reads the source.
  void give_back(TimePoint now, uint32_t segment, Effects& effects);
  // The channel no longer reads the source of this publish (packed, or completed, or fenced).
  // Before or after published(); once for each take() that was not given back.
  void publish_done(TimePoint now, uint32_t segment, Effects& effects);
  // The publish was handed to the channel: counts for SENT. To be called no later than anything
  // the peer says of it. A publish that fails needs publish_done() alone: the handoff is to end.
  void published(TimePoint now, uint32_t segment, Effects& effects);
  // Ends as cancelled or expired (CANCEL to the peer) or failed (FAILED).
  void abort(TimePoint now, End end, Status why, Effects& effects);
  // Ends as failed; the peer is told nothing.
  void peer_lost(TimePoint now, const Status& why, Effects& effects);
  // Call when next_deadline() has passed.
  void advance(TimePoint now, Effects& effects);

  // --- the peer. A message that the state does not expect is ignored when a late or doubled one
  // explains it, else it ends the handoff as failed (kProtocol).
  void on_message(TimePoint now, const Message& message, Effects& effects);

  // --- queries
  State state() const { return state_; }
  const HandoffAttempt& handoff() const { return handoff_; }
  const SegmentMap& segments() const { return map_; }
  bool accepted() const { return accepted_; }
  // Whether the receiver needs this segment at all (false: it holds it). True before ACCEPT.
  bool needed(uint32_t segment) const { return (flags_[segment] & kHeld) == 0; }
  bool acknowledged(uint32_t segment) const { return (flags_[segment] & kAcked) != 0; }
  // Published or being published, not acknowledged and not asked for again. Never above the window.
  uint64_t unacknowledged_bytes() const { return unacknowledged_bytes_; }
  uint64_t window_bytes() const { return window_bytes_; }              // 0 before ACCEPT
  uint64_t published_bytes() const { return published_bytes_; }        // RESENDs included
  uint64_t acknowledged_bytes() const { return acknowledged_bytes_; }  // each segment once
  // How often take() gave this one and it was not given back.
  uint32_t publishes(uint32_t segment) const { return publishes_[segment]; }
  uint32_t publishes_under_way() const { return under_way_; }
  std::optional<uint32_t> next_segment() const;  // what take() would give
  std::optional<TimePoint> next_deadline() const;
  bool quiet() const { return quiet_; }
  // The peer said that it neither reads nor writes for this handoff any more (DRAINED, COMMIT, or
  // REFUSE before ACCEPT).
  bool peer_drained() const { return peer_drained_; }

  bool operator==(const SenderHandoff&) const = default;

 private:
  // Of each segment.
  enum Flag : uint8_t {
    kHeld = 1,       // the receiver has it; never taken
    kAcked = 2,      // verified by the receiver
    kTaken = 4,      // take() gave it, published() and give_back() have not been called
    kUnderWay = 8,   // take() gave it, publish_done() and give_back() have not been called
    kInWindow = 16,  // counts as unacknowledged
    kOnWire = 32,    // in the window and published
    kWanted = 64,    // asked for again; goes to resend_ when publish_done() comes
    kSentOnce = 128  // counted in distinct_published_
  };

  bool has(uint32_t segment, uint8_t flags) const { return (flags_[segment] & flags) != 0; }
  uint32_t rank_of(uint32_t segment) const;
  uint32_t segment_at(uint32_t rank) const;
  std::optional<uint32_t> next_rank() const;
  void on_accept(TimePoint now, const Accept& accept, Effects& effects);
  void on_ack(TimePoint now, const Ack& ack, Effects& effects);
  void on_resend(TimePoint now, const Resend& resend, Effects& effects);
  void on_commit(TimePoint now, Effects& effects);
  void acknowledge(TimePoint now, uint32_t segment);
  // False when the segment was published too often and the handoff ended.
  bool publish_again(TimePoint now, uint32_t segment, Effects& effects);
  void leave_window(uint32_t segment);
  void note_unsent(TimePoint now);
  void finish(End end, Status why, Effects& effects);
  void fail(Code code, std::string text, Effects& effects);
  void unexpected(const Message& message, Effects& effects);
  void become_quiet_if_done(Effects& effects);

  State state_ = State::kNew;
  HandoffAttempt handoff_;
  SenderConfig config_;
  TimePoint deadline_;
  SegmentMap map_;
  scheduler::LayerMajor order_;

  std::vector<uint8_t> flags_;      // Flag bits, one byte a segment
  std::vector<uint8_t> publishes_;  // how often each was taken and not given back
  IndexSet ready_;                  // ranks: bytes are there, never published
  IndexSet resend_;                 // ranks: asked for again, nothing under way

  bool accepted_ = false;
  bool quiet_ = false;
  bool peer_drained_ = false;
  bool drained_owed_ = false;
  uint32_t needed_ = 0;
  uint32_t acked_ = 0;
  uint32_t distinct_published_ = 0;
  uint32_t under_way_ = 0;
  uint32_t taken_ = 0;
  uint32_t on_wire_ = 0;
  uint64_t window_bytes_ = 0;
  uint64_t unacknowledged_bytes_ = 0;
  uint64_t published_bytes_ = 0;
  uint64_t acknowledged_bytes_ = 0;
  TimePoint offered_at_;
  TimePoint progress_at_;  // last ACK of something new, or when something was first on the wire
  TimePoint all_acked_at_;
  // Since when something is ready or taken, and nothing on the wire.
  std::optional<TimePoint> unsent_since_;
};

// For people: logs, errors, /debug/handoffs.
const char* state_name(SenderHandoff::State state);

}  // namespace baton::protocol
