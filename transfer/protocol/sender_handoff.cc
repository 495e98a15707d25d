#include "transfer/protocol/sender_handoff.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "transfer/base/check.h"
#include "transfer/base/text.h"
#include "transfer/protocol/offer.h"

namespace baton::protocol {

const char* state_name(SenderHandoff::State state) {
  switch (state) {
    case SenderHandoff::State::kNew:
      return "new";
    case SenderHandoff::State::kQueued:
      return "queued";
    case SenderHandoff::State::kOffered:
      return "offered";
    case SenderHandoff::State::kSending:
      return "sending";
    case SenderHandoff::State::kEnded:
      return "ended";
  }
  return "unknown";
}

SenderHandoff::SenderHandoff(HandoffAttempt handoff, SenderConfig config, TimePoint deadline)
    : handoff_(handoff), config_(config), deadline_(deadline) {
  BATON_CHECK(config.max_publishes_per_segment >= 1 && config.max_publishes_per_segment <= 255,
              "max_publishes_per_segment is 1 to 255");
}

void SenderHandoff::queued(TimePoint, Effects& effects) {
  if (state_ != State::kNew) return;
  state_ = State::kQueued;
  effects.messages.emplace_back(Queued{handoff_});
}

void SenderHandoff::offer(TimePoint now, Offer offer, Effects& effects) {
  if (state_ == State::kEnded) return;
  BATON_CHECK(state_ == State::kNew || state_ == State::kQueued, "offer() is called once");
  BATON_CHECK(offer.handoff == handoff_, "the offer is of this handoff");
  if (const Status status = check_offer(offer); !status.ok()) {
    fail(Code::kInvalidArgument, status.message(), effects);
    return;
  }
  map_ = SegmentMap(offer);
  std::vector<uint16_t> layers;
  for (uint16_t group = 0; group < map_.groups(); ++group) layers.push_back(map_.layers(group));
  order_ = scheduler::LayerMajor(layers, map_.chunks());
  flags_.assign(map_.segments(), 0);
  publishes_.assign(map_.segments(), 0);
  ready_ = IndexSet(map_.segments());
  resend_ = IndexSet(map_.segments());
  needed_ = map_.segments();
  state_ = State::kOffered;
  offered_at_ = now;
  effects.messages.emplace_back(std::move(offer));
}

void SenderHandoff::segment_ready(TimePoint now, uint32_t segment) {
  if (state_ == State::kEnded) return;
  BATON_CHECK(segment < map_.segments(), "segment_ready() names a segment of the offer");
  if (publishes_[segment] == 0 && !has(segment, kHeld)) ready_.insert(rank_of(segment));
  note_unsent(now);
}

// To be called after whatever changes ready_, resend_, taken_, on_wire_ or state_. (While nothing
// is on the wire the window holds what is taken, so one of the two is always within it.)
void SenderHandoff::note_unsent(TimePoint now) {
  if (state_ != State::kSending || on_wire_ > 0 || (taken_ == 0 && !next_rank())) {
    unsent_since_.reset();
  } else if (!unsent_since_) {
    unsent_since_ = now;
  }
}

uint32_t SenderHandoff::rank_of(uint32_t segment) const {
  const SegmentId id = map_.id(segment);
  return order_.rank({.group = id.group, .chunk = id.chunk, .layer = id.layer});
}

uint32_t SenderHandoff::segment_at(uint32_t rank) const {
  const scheduler::SegmentPosition at = order_.position(rank);
  return map_.index({.group = at.group, .chunk = at.chunk, .layer = at.layer});
}

std::optional<uint32_t> SenderHandoff::next_rank() const {
  if (state_ != State::kSending) return std::nullopt;
  if (const auto rank = resend_.first()) return rank;
  return ready_.first();
}

std::optional<uint32_t> SenderHandoff::next_segment() const {
  const auto rank = next_rank();
  if (!rank) return std::nullopt;
  const uint32_t segment = segment_at(*rank);
  if (unacknowledged_bytes_ + map_.bytes(segment) > window_bytes_) return std::nullopt;
  return segment;
}

std::optional<uint32_t> SenderHandoff::take() {
  const auto segment = next_segment();
  if (!segment) return std::nullopt;
  const uint32_t rank = rank_of(*segment);
  resend_.erase(rank);
  ready_.erase(rank);
  flags_[*segment] |= kTaken | kUnderWay | kInWindow;
  ++publishes_[*segment];
  ++under_way_;
  ++taken_;
  unacknowledged_bytes_ += map_.bytes(*segment);
  return segment;
}

void SenderHandoff::give_back(TimePoint now, uint32_t segment, Effects& effects) {
  BATON_CHECK(segment < flags_.size() && has(segment, kTaken) && has(segment, kUnderWay),
              "give_back() follows take()");
  flags_[segment] &= ~(kTaken | kUnderWay);
  --under_way_;
  --taken_;
  --publishes_[segment];
  leave_window(segment);
  if (state_ == State::kSending && !has(segment, kAcked)) {
    (publishes_[segment] == 0 ? ready_ : resend_).insert(rank_of(segment));
  }
  note_unsent(now);
  become_quiet_if_done(effects);
}

void SenderHandoff::published(TimePoint now, uint32_t segment, Effects& effects) {
  BATON_CHECK(segment < flags_.size() && has(segment, kTaken), "published() follows take()");
  flags_[segment] &= ~kTaken;
  --taken_;
  published_bytes_ += map_.bytes(segment);
  if (has(segment, kInWindow)) {
    if (on_wire_++ == 0) progress_at_ = now;
    flags_[segment] |= kOnWire;
  }
  note_unsent(now);
  if (has(segment, kSentOnce)) return;
  flags_[segment] |= kSentOnce;
  ++distinct_published_;
  if (state_ != State::kSending) return;
  effects.messages.emplace_back(
      Sent{handoff_, distinct_published_, distinct_published_ == needed_});
}

void SenderHandoff::publish_done(TimePoint now, uint32_t segment, Effects& effects) {
  BATON_CHECK(segment < flags_.size() && has(segment, kUnderWay), "publish_done() follows take()");
  --under_way_;
  if (has(segment, kWanted) && state_ == State::kSending) {
    resend_.insert(rank_of(segment));
  }
  flags_[segment] &= ~(kUnderWay | kWanted);
  note_unsent(now);
  become_quiet_if_done(effects);
}

void SenderHandoff::abort(TimePoint, End end, Status why, Effects& effects) {
  if (state_ == State::kEnded) return;
  BATON_CHECK(end == End::kCancelled || end == End::kExpired || end == End::kFailed,
              "abort() ends as cancelled, expired or failed");
  if (why.ok()) why = Status(Code::kCancelled, "the sender stopped");
  if (end == End::kFailed) {
    fail(why.code(), why.message(), effects);
    return;
  }
  effects.messages.emplace_back(Cancel{handoff_, bounded_text(why.message())});
  finish(end, std::move(why), effects);
}

void SenderHandoff::peer_lost(TimePoint, const Status& why, Effects& effects) {
  drained_owed_ = false;
  if (state_ == State::kEnded) return;
  finish(End::kFailed, why.ok() ? Status(Code::kUnavailable, "the receiver is gone") : why,
         effects);
}

void SenderHandoff::advance(TimePoint now, Effects& effects) {
  if (state_ == State::kEnded) return;
  const char* passed = nullptr;
  if (now >= deadline_) {
    passed = "the request's budget";
  } else if (const auto deadline = next_deadline(); deadline && now >= *deadline) {
    passed = state_ == State::kOffered ? "the time from OFFER to ACCEPT"
             : acked_ == needed_       ? "the time from the last ACK to COMMIT"
             : unsent_since_           ? "the time in which nothing could be sent"
                                       : "the time without a new ACK";
  }
  if (passed == nullptr) return;
  const std::string text = std::string(passed) + " is over";
  effects.messages.emplace_back(Cancel{handoff_, text});
  finish(End::kExpired, Status(Code::kDeadlineExceeded, text), effects);
}

std::optional<TimePoint> SenderHandoff::next_deadline() const {
  if (state_ == State::kEnded) return std::nullopt;
  TimePoint next = deadline_;
  if (state_ == State::kOffered) next = std::min(next, offered_at_ + config_.accept_deadline);
  if (state_ == State::kSending && acked_ == needed_) {
    next = std::min(next, all_acked_at_ + config_.commit_deadline);
  }
  if (state_ == State::kSending && on_wire_ > 0) {
    next = std::min(next, progress_at_ + config_.progress_deadline);
  }
  if (unsent_since_) next = std::min(next, *unsent_since_ + config_.progress_deadline);
  return next;
}

void SenderHandoff::on_message(TimePoint now, const Message& message, Effects& effects) {
  const HandoffAttempt* handoff = handoff_of(message);
  BATON_CHECK(handoff != nullptr && *handoff == handoff_, "the message is of this handoff");
  const bool live = state_ != State::kEnded;
  if (const auto* cancel = std::get_if<Cancel>(&message)) {
    drained_owed_ = true;
    if (live) finish(End::kCancelled, Status(Code::kCancelled, cancel->text), effects);
    become_quiet_if_done(effects);
  } else if (const auto* failed = std::get_if<Failed>(&message)) {
    drained_owed_ = true;
    if (live) finish(End::kFailed, Status(failed->code, failed->text), effects);
    become_quiet_if_done(effects);
  } else if (std::holds_alternative<Drained>(message) && !live) {
    peer_drained_ = true;
  } else if (!live || std::holds_alternative<Fetch>(message)) {
    return;  // late, or a FETCH that is being answered
  } else if (const auto* refuse = std::get_if<Refuse>(&message)) {
    // Also after ACCEPT: the receiver's node no longer knows the handoff.
    peer_drained_ = !accepted_;
    finish(End::kRefused,
           Status(Code::kRefused,
                  std::string(refuse_reason_name(refuse->reason)) + ": " + refuse->text),
           effects);
  } else if (const auto* accept = std::get_if<Accept>(&message);
             accept != nullptr && state_ >= State::kOffered) {
    if (state_ == State::kOffered) on_accept(now, *accept, effects);
    note_unsent(now);
  } else if (state_ != State::kSending) {
    unexpected(message, effects);
  } else if (const auto* ack = std::get_if<Ack>(&message)) {
    on_ack(now, *ack, effects);
    note_unsent(now);
  } else if (const auto* resend = std::get_if<Resend>(&message)) {
    on_resend(now, *resend, effects);
    note_unsent(now);
  } else if (std::holds_alternative<Commit>(message)) {
    on_commit(now, effects);
  } else {
    unexpected(message, effects);
  }
}

void SenderHandoff::on_accept(TimePoint now, const Accept& accept, Effects& effects) {
  if (accept.held_tokens > map_.tokens() || accept.held_chunks.size() != map_.chunks()) {
    fail(Code::kProtocol,
         "ACCEPT holds " + number(accept.held_tokens) + " tokens and has " +
             number(accept.held_chunks.size()) + " chunk bits; the offer has " +
             number(map_.tokens()) + " tokens in " + number(map_.chunks()) + " chunks",
         effects);
    return;
  }
  const std::vector<bool> held = chunks_held(map_, accept.held_tokens, accept.held_chunks);
  const uint64_t largest = largest_needed_segment(map_, held);
  if (accept.window_bytes < largest) {
    fail(Code::kProtocol,
         "ACCEPT guarantees a window of " + number(accept.window_bytes) + " bytes; a segment has " +
             number(largest),
         effects);
    return;
  }
  for (uint16_t group = 0; group < map_.groups(); ++group) {
    for (uint32_t chunk = 0; chunk < map_.chunks(); ++chunk) {
      if (!held[chunk]) continue;
      for (uint16_t layer = 0; layer < map_.layers(group); ++layer) {
        const uint32_t segment = map_.index({group, chunk, layer});
        flags_[segment] |= kHeld;
        ready_.erase(rank_of(segment));
        --needed_;
      }
    }
  }
  window_bytes_ = accept.window_bytes;
  accepted_ = true;
  state_ = State::kSending;
  if (needed_ == 0) all_acked_at_ = now;
}

void SenderHandoff::on_ack(TimePoint now, const Ack& ack, Effects& effects) {
  for (size_t j = 0; j < ack.words.size(); ++j) {
    for (uint64_t word = ack.words[j]; word != 0; word &= word - 1) {
      const uint64_t segment =
          (uint64_t{ack.first_word} + j) * 64 + static_cast<uint64_t>(std::countr_zero(word));
      if (segment >= map_.segments() || publishes_[segment] == 0) {
        fail(Code::kProtocol,
             "ACK of segment " + number(segment) + ", which was not published (" +
                 number(map_.segments()) + " segments)",
             effects);
        return;
      }
      if (!has(static_cast<uint32_t>(segment), kAcked)) {
        acknowledge(now, static_cast<uint32_t>(segment));
      }
    }
  }
}

void SenderHandoff::acknowledge(TimePoint now, uint32_t segment) {
  leave_window(segment);
  resend_.erase(rank_of(segment));
  flags_[segment] = static_cast<uint8_t>((flags_[segment] | kAcked) & ~kWanted);
  acknowledged_bytes_ += map_.bytes(segment);
  progress_at_ = now;
  if (++acked_ == needed_) all_acked_at_ = now;
}

void SenderHandoff::on_resend(TimePoint now, const Resend& resend, Effects& effects) {
  for (const uint32_t segment : resend.segments) {
    if (segment >= map_.segments()) {
      fail(Code::kProtocol,
           "RESEND of segment " + number(segment) + " of " + number(map_.segments()), effects);
      return;
    }
    // Also of one that is yet to be published: bytes that came under a wrong number do not verify,
    // and the receiver cannot know whose they were. Then there is nothing to be sent again.
    if (!publish_again(now, segment, effects)) return;
  }
  if (!resend.segments.empty()) return;
  for (uint32_t segment = 0; segment < map_.segments() && on_wire_ > 0; ++segment) {
    if (!publish_again(now, segment, effects)) return;
  }
}

bool SenderHandoff::publish_again(TimePoint, uint32_t segment, Effects& effects) {
  // Not on the wire: verified by now, or another copy is on its way already.
  if (!has(segment, kOnWire)) return true;
  leave_window(segment);
  if (publishes_[segment] >= config_.max_publishes_per_segment) {
    fail(Code::kChecksum,
         "segment " + number(segment) + " was published " + number(publishes_[segment]) +
             " times and is asked for again",
         effects);
    return false;
  }
  if (has(segment, kUnderWay)) {
    flags_[segment] |= kWanted;
  } else {
    resend_.insert(rank_of(segment));
  }
  return true;
}

void SenderHandoff::leave_window(uint32_t segment) {
  if (!has(segment, kInWindow)) return;
  unacknowledged_bytes_ -= map_.bytes(segment);
  if (has(segment, kOnWire)) --on_wire_;
  flags_[segment] &= ~(kInWindow | kOnWire);
}

void SenderHandoff::on_commit(TimePoint, Effects& effects) {
  if (acked_ != needed_) {
    fail(Code::kProtocol,
         "COMMIT when " + number(acked_) + " of " + number(needed_) + " segments are acknowledged",
         effects);
    return;
  }
  peer_drained_ = true;
  finish(End::kCommitted, {}, effects);
}

void SenderHandoff::finish(End end, Status why, Effects& effects) {
  state_ = State::kEnded;
  unsent_since_.reset();
  effects.end = end;
  effects.why = std::move(why);
  become_quiet_if_done(effects);
}

void SenderHandoff::fail(Code code, std::string text, Effects& effects) {
  effects.messages.emplace_back(Failed{handoff_, code, bounded_text(text)});
  finish(End::kFailed, Status(code, std::move(text)), effects);
}

void SenderHandoff::unexpected(const Message& message, Effects& effects) {
  fail(Code::kProtocol,
       std::string(message_name(message)) + " does not belong into the sender's state '" +
           state_name(state_) + "'",
       effects);
}

void SenderHandoff::become_quiet_if_done(Effects& effects) {
  if (state_ != State::kEnded || under_way_ > 0) return;
  if (!quiet_) effects.quiet = true;
  quiet_ = true;
  if (std::exchange(drained_owed_, false)) effects.messages.emplace_back(Drained{handoff_});
}

}  // namespace baton::protocol
