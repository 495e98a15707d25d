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

struct SenderConfig {
  Duration accept_deadline = std::chrono::seconds(5);    // from OFFER to ACCEPT or REFUSE
  Duration progress_deadline = std::chrono::seconds(2);  // between ACKs while something is unacknowledged
  Duration commit_deadline = std::chrono::seconds(2);    // from the last ACK to COMMIT
  uint32_t max_publishes_per_segment = 8;                // first time and RESENDs
};

class SenderHandoff {
 public:
  enum class State : uint8_t { kNew, kQueued, kOffered, kSending, kEnded };

  // `deadline`: the request's whole budget.
  SenderHandoff(HandoffAttempt handoff, SenderConfig config, TimePoint deadline);

  // --- the local side
  // The request waits in the engine: QUEUED.
  void queued(TimePoint now, Effects& effects);
  // Prefill begins (or a FETCH is answered): OFFER. Once.
  void offer(TimePoint now, Offer offer, Effects& effects);
  // The segment's bytes are there to be gathered or sent. In any state after offer(); a segment
  // that the receiver holds is simply never taken. Twice is once.
  void segment_ready(uint32_t segment);
  // The next segment to publish within the window, layer-major, RESENDs first; the caller gathers
  // and publishes it, or gives it back.
  std::optional<uint32_t> take();
  void give_back(uint32_t segment);  // nothing was published (no staging memory now)
  // The channel no longer reads the source of this publish (packed, or completed, or fenced).
  void publish_done(TimePoint now, uint32_t segment, Effects& effects);
  // The publish was handed to the channel: counts for SENT.
  void published(TimePoint now, uint32_t segment, Effects& effects);
  // Ends as cancelled (the engine aborted) or failed.
  void abort(TimePoint now, End end, Status why, Effects& effects);
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
  bool needed(uint32_t segment) const;
  bool acknowledged(uint32_t segment) const;
  uint64_t unacknowledged_bytes() const { return unacknowledged_bytes_; }
  uint64_t published_bytes() const { return published_bytes_; }  // RESENDs included
  std::optional<uint64_t> next_segment_bytes() const;  // of what take() would give
  std::optional<TimePoint> next_deadline() const;

 private:
  // (members are the implementer's)
};

}  // namespace baton::protocol
