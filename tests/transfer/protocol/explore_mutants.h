// Machines that are wrong in one way each: what the exploration must find.
#pragma once

#include "tests/transfer/protocol/fixtures.h"

namespace baton::protocol {

// --- receivers

// A copy counts as verified whatever its checksum says.
struct AcknowledgesUnverified : ReceiverHandoff {
  using ReceiverHandoff::ReceiverHandoff;
  void copy_done(TimePoint now, uint32_t segment, bool, Effects& effects) {
    ReceiverHandoff::copy_done(now, segment, true, effects);
  }
};

// So many copies as there are segments are taken for all segments.
struct CommitsByCounter : ReceiverHandoff {
  using ReceiverHandoff::ReceiverHandoff;
  uint32_t copies = 0;
  bool operator==(const CommitsByCounter&) const = default;
  void copy_done(TimePoint now, uint32_t segment, bool verified, Effects& effects) {
    ReceiverHandoff::copy_done(now, segment, verified, effects);
    if (++copies != segments().segments() || state() == State::kEnded) return;
    effects.messages.emplace_back(Commit{handoff()});
    effects.end = End::kCommitted;
  }
};

// Told to stop, it gives the blocks back while a copy is under way.
struct ReceiverReleasesEarly : ReceiverHandoff {
  using ReceiverHandoff::ReceiverHandoff;
  void abort(TimePoint now, Status why, Effects& effects) {
    ReceiverHandoff::abort(now, std::move(why), effects);
    effects.quiet = true;
  }
};

struct WaitsForSegmentsForever : ReceiverHandoff {
  using ReceiverHandoff::ReceiverHandoff;
  std::optional<TimePoint> next_deadline() const {
    if (state() == State::kReceiving) return std::nullopt;
    return ReceiverHandoff::next_deadline();
  }
};

// What did not come or did not verify is not asked for again.
struct NeverAsksAgain : ReceiverHandoff {
  using ReceiverHandoff::ReceiverHandoff;
  void copy_done(TimePoint now, uint32_t segment, bool verified, Effects& effects) {
    ReceiverHandoff::copy_done(now, segment, verified, effects);
    drop(effects);
  }
  void advance(TimePoint now, Effects& effects) {
    ReceiverHandoff::advance(now, effects);
    drop(effects);
  }
  static void drop(Effects& effects) {
    std::erase_if(effects.messages, [](const Message& m) { return m.index() == 7; });
  }
};
static_assert(std::is_same_v<std::variant_alternative_t<7, Message>, Resend>);

struct ReceiverEndsTwice : ReceiverHandoff {
  using ReceiverHandoff::ReceiverHandoff;
  void peer_lost(TimePoint now, const Status& why, Effects& effects) {
    ReceiverHandoff::peer_lost(now, why, effects);
    effects.end = End::kFailed;
    effects.why = Status(Code::kUnavailable, "gone");
  }
};

// Says DRAINED when it is told to stop, and again when its copy has come back.
struct ReceiverDrainedTooEarly : ReceiverHandoff {
  using ReceiverHandoff::ReceiverHandoff;
  void on_message(TimePoint now, const Message& message, Effects& effects) {
    ReceiverHandoff::on_message(now, message, effects);
    if (std::holds_alternative<Cancel>(message) && copies_under_way() > 0) {
      effects.messages.emplace_back(Drained{handoff()});
    }
  }
};

// --- senders

// Takes a publish for done when it was handed to the channel.
struct SenderReleasesEarly : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void published(TimePoint now, uint32_t segment, Effects& effects) {
    SenderHandoff::published(now, segment, effects);
    SenderHandoff::publish_done(now, segment, effects);
  }
  void publish_done(TimePoint, uint32_t, Effects&) {}
};

// Asked for a segment again, it does not wait for the publish that is under way.
struct PublishesTwiceAtOnce : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  std::optional<uint32_t> again;
  bool operator==(const PublishesTwiceAtOnce&) const = default;
  void on_message(TimePoint now, const Message& message, Effects& effects) {
    SenderHandoff::on_message(now, message, effects);
    const auto* resend = std::get_if<Resend>(&message);
    if (resend != nullptr && !resend->segments.empty()) again = resend->segments[0];
  }
  std::optional<uint32_t> next_segment() const {
    return again ? again : SenderHandoff::next_segment();
  }
  std::optional<uint32_t> take() {
    return again ? std::exchange(again, std::nullopt) : SenderHandoff::take();
  }
};

struct IgnoresTheWindow : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void on_message(TimePoint now, Message message, Effects& effects) {
    if (auto* accept = std::get_if<Accept>(&message)) accept->window_bytes = 1 << 20;
    SenderHandoff::on_message(now, message, effects);
  }
};

struct SendsWhatIsHeld : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void on_message(TimePoint now, Message message, Effects& effects) {
    if (auto* accept = std::get_if<Accept>(&message)) {
      accept->held_chunks.assign(accept->held_chunks.size(), false);
    }
    SenderHandoff::on_message(now, message, effects);
  }
};

// All is on the wire: what can still go wrong?
struct CommitsWhenAllIsSent : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void published(TimePoint now, uint32_t segment, Effects& effects) {
    SenderHandoff::published(now, segment, effects);
    const Sent* sent = find<Sent>(effects);
    if (sent != nullptr && sent->all) effects.end = End::kCommitted;
  }
};

struct SenderDrainedTooEarly : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void on_message(TimePoint now, const Message& message, Effects& effects) {
    SenderHandoff::on_message(now, message, effects);
    if (std::holds_alternative<Cancel>(message) && publishes_under_way() > 0) {
      effects.messages.emplace_back(Drained{handoff()});
    }
  }
};

struct NeverSendsAgain : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void on_message(TimePoint now, const Message& message, Effects& effects) {
    if (!std::holds_alternative<Resend>(message)) {
      SenderHandoff::on_message(now, message, effects);
    }
  }
};

struct SpeaksToTheDead : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void peer_lost(TimePoint now, const Status& why, Effects& effects) {
    SenderHandoff::peer_lost(now, why, effects);
    effects.messages.emplace_back(Cancel{handoff(), "are you there?"});
  }
};

struct WaitsForCommitForever : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  std::optional<TimePoint> next_deadline() const {
    if (state() == State::kSending && unacknowledged_bytes() == 0) return std::nullopt;
    return SenderHandoff::next_deadline();
  }
};

// The deadline is checked by the second.
struct FiresTooEarly : SenderHandoff {
  using SenderHandoff::SenderHandoff;
  void advance(TimePoint now, Effects& effects) {
    SenderHandoff::advance(now + seconds(1), effects);
  }
};

}  // namespace baton::protocol
