#include "transfer/protocol/receiver_handoff.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "transfer/base/check.h"
#include "transfer/base/text.h"

namespace baton::protocol {
namespace {

// Beyond this many doublings resend_after no longer grows.
constexpr uint32_t kMaxDoublings = 8;

void set_bit(std::vector<uint64_t>& words, uint32_t i) { words[i / 64] |= uint64_t{1} << (i % 64); }
void clear_bit(std::vector<uint64_t>& words, uint32_t i) {
  words[i / 64] &= ~(uint64_t{1} << (i % 64));
}

}  // namespace

const char* state_name(ReceiverHandoff::State state) {
  switch (state) {
    case ReceiverHandoff::State::kExpecting:
      return "expecting";
    case ReceiverHandoff::State::kContacted:
      return "contacted";
    case ReceiverHandoff::State::kOffered:
      return "offered";
    case ReceiverHandoff::State::kReceiving:
      return "receiving";
    case ReceiverHandoff::State::kEnded:
      return "ended";
  }
  return "unknown";
}

ReceiverHandoff::ReceiverHandoff(HandoffAttempt handoff, ReceiverConfig config, TimePoint now)
    : handoff_(handoff), config_(config), created_at_(now) {}

void ReceiverHandoff::begin(TimePoint now, Expectation expectation, Effects& effects) {
  if (state_ == State::kEnded) return;
  BATON_CHECK(!claimed(), "begin() is called once");
  begun_at_ = now;
  expectation_ = std::move(expectation);
  if (state_ == State::kOffered) {
    compare(now, effects);
  } else if (expectation_->flow == Flow::kFetch && state_ == State::kExpecting) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::max(expectation_->deadline - now, Duration::zero()));
    const auto budget = std::min<int64_t>(left.count(), UINT32_MAX);
    effects.messages.emplace_back(Fetch{handoff_, expectation_->tokens, expectation_->tenant,
                                        expectation_->keys, static_cast<uint32_t>(budget)});
  }
}

void ReceiverHandoff::compare(TimePoint now, Effects& effects) {
  if (auto difference = compare_offer(*expectation_, *offer_)) {
    refuse(now, difference->reason, std::move(difference->text), effects);
    return;
  }
  offered_at_ = now;
  effects.offered = true;
}

void ReceiverHandoff::accept(TimePoint now, Acceptance acceptance, Effects& effects) {
  if (state_ == State::kEnded) return;
  BATON_CHECK(state_ == State::kOffered && claimed(), "accept() follows Effects::offered, once");
  const uint32_t held_tokens = std::min(acceptance.held_tokens, map_.tokens());
  std::vector<bool> held = chunks_held(map_, held_tokens, acceptance.held_chunks);
  if (const uint64_t largest = largest_needed_segment(map_, held);
      acceptance.window_bytes < largest) {
    refuse(now, RefuseReason::kNoRoom,
           "a window of " + number(acceptance.window_bytes) + " bytes, a segment has " +
               number(largest),
           effects);
    return;
  }
  held_ = std::move(held);
  const size_t words = (map_.segments() + 63) / 64;
  verified_.assign(words, 0);
  copying_bits_.assign(words, 0);
  layer_missing_.assign(map_.max_layers(), 0);
  const auto held_count = static_cast<uint32_t>(std::count(held_.begin(), held_.end(), true));
  for (uint16_t group = 0; group < map_.groups(); ++group) {
    for (uint16_t layer = 0; layer < map_.layers(group); ++layer) {
      layer_missing_[layer] += map_.chunks() - held_count;
    }
    needed_ += (map_.chunks() - held_count) * map_.layers(group);
  }
  state_ = State::kReceiving;
  acceptance.held_chunks.resize(map_.chunks());
  effects.messages.emplace_back(
      Accept{handoff_, held_tokens, std::move(acceptance.held_chunks), acceptance.window_bytes});
  if (needed_ > 0) return;
  effects.messages.emplace_back(Commit{handoff_});
  finish(End::kCommitted, {}, effects);
}

void ReceiverHandoff::refuse(TimePoint, RefuseReason reason, std::string text, Effects& effects) {
  if (state_ == State::kEnded) return;
  BATON_CHECK(state_ != State::kReceiving, "refuse() comes before accept()");
  text = bounded_text(std::move(text));
  effects.messages.emplace_back(Refuse{handoff_, reason, text});
  finish(End::kRefused,
         Status(Code::kRefused, std::string(refuse_reason_name(reason)) + ": " + text), effects);
}

ReceiverHandoff::Arrival ReceiverHandoff::on_segment(TimePoint now, uint32_t segment,
                                                     uint64_t bytes) {
  if (state_ != State::kReceiving || segment >= map_.segments() || bytes != map_.bytes(segment) ||
      held_[map_.id(segment).chunk]) {
    return Arrival::kUnwanted;
  }
  if (bit(verified_, segment) || bit(copying_bits_, segment)) return Arrival::kDuplicate;
  set_bit(copying_bits_, segment);
  ++copying_;
  stirred_at_ = now;
  return Arrival::kCopy;
}

void ReceiverHandoff::copy_done(TimePoint now, uint32_t segment, bool verified, Effects& effects) {
  BATON_CHECK(segment < map_.segments() && bit(copying_bits_, segment),
              "copy_done() follows Arrival::kCopy");
  clear_bit(copying_bits_, segment);
  --copying_;
  stirred_at_ = now;
  if (state_ == State::kEnded) {
    become_quiet_if_done(effects);
  } else if (verified) {
    on_verified(now, segment, effects);
  } else {
    on_bad_copy(now, segment, effects);
  }
}

void ReceiverHandoff::on_verified(TimePoint now, uint32_t segment, Effects& effects) {
  set_bit(verified_, segment);
  ++verified_count_;
  verified_bytes_ += map_.bytes(segment);
  --layer_missing_[map_.id(segment).layer];
  progress_at_ = now;
  resends_ = 0;
  effects.messages.emplace_back(Ack{handoff_, segment / 64, {verified_[segment / 64]}});
  if (verified_count_ < needed_) return;
  effects.messages.emplace_back(Commit{handoff_});
  finish(End::kCommitted, {}, effects);
}

void ReceiverHandoff::on_bad_copy(TimePoint, uint32_t segment, Effects& effects) {
  const uint32_t bad = ++bad_copies_[segment];
  if (bad >= config_.max_bad_copies) {
    end_failed(Code::kChecksum,
               "segment " + number(segment) + " did not verify, " + number(bad) + " times",
               effects);
    return;
  }
  effects.messages.emplace_back(Resend{handoff_, {segment}});
}

void ReceiverHandoff::abort(TimePoint, Status why, Effects& effects) {
  if (state_ == State::kEnded) return;
  if (why.ok()) why = Status(Code::kCancelled, "the receiver stopped");
  effects.messages.emplace_back(Cancel{handoff_, bounded_text(why.message())});
  finish(End::kCancelled, std::move(why), effects);
}

void ReceiverHandoff::fail(TimePoint, Status why, Effects& effects) {
  if (state_ == State::kEnded) return;
  if (why.ok()) why = Status(Code::kUnavailable, "the handoff failed");
  end_failed(why.code(), why.message(), effects);
}

void ReceiverHandoff::peer_lost(TimePoint, const Status& why, Effects& effects) {
  drained_owed_ = false;
  if (state_ == State::kEnded) return;
  finish(End::kFailed, why.ok() ? Status(Code::kUnavailable, "the sender is gone") : why, effects);
}

bool ReceiverHandoff::present(uint32_t segment) const {
  return !held_.empty() && (held_[map_.id(segment).chunk] || bit(verified_, segment));
}

bool ReceiverHandoff::verified(uint32_t segment) const {
  return !verified_.empty() && bit(verified_, segment);
}

bool ReceiverHandoff::layer_complete(uint16_t layer) const {
  return layer < layer_missing_.size() && layer_missing_[layer] == 0;
}

std::optional<TimePoint> ReceiverHandoff::resend_at() const {
  if (state_ != State::kReceiving || copying_ > 0 || !missing()) return std::nullopt;
  return stirred_at_ + config_.resend_after * (1 << std::min(resends_, kMaxDoublings));
}

std::optional<TimePoint> ReceiverHandoff::progress_by() const {
  if (state_ != State::kReceiving || sent_ <= verified_count_) return std::nullopt;
  return progress_at_ + config_.progress_deadline;
}

std::optional<TimePoint> ReceiverHandoff::next_deadline() const {
  if (state_ == State::kEnded) return std::nullopt;
  if (!claimed()) return created_at_ + config_.record_ttl;
  TimePoint next = expectation_->deadline;
  if (state_ == State::kExpecting) {
    next = std::min(next, begun_at_ + config_.first_contact_deadline);
  }
  if (state_ == State::kOffered) next = std::min(next, offered_at_ + config_.accept_deadline);
  if (const auto by = progress_by()) next = std::min(next, *by);
  if (const auto at = resend_at()) next = std::min(next, *at);
  return next;
}

void ReceiverHandoff::advance(TimePoint now, Effects& effects) {
  if (state_ == State::kEnded) return;
  if (!claimed()) {
    if (now < created_at_ + config_.record_ttl) return;
    const std::string text = "no engine asked for this handoff in time";
    effects.messages.emplace_back(Refuse{handoff_, RefuseReason::kExpired, text});
    finish(End::kExpired, Status(Code::kDeadlineExceeded, text), effects);
  } else if (now >= expectation_->deadline) {
    expire("the request's budget is over", effects);
  } else if (state_ == State::kExpecting && now >= begun_at_ + config_.first_contact_deadline) {
    const std::string from = expectation_->from.empty() ? "the sender" : expectation_->from;
    expire("no first contact: " + from + " said nothing of this handoff within " +
               number(static_cast<uint64_t>(to_ms(config_.first_contact_deadline))) + " ms",
           effects);
  } else if (state_ == State::kOffered && now >= offered_at_ + config_.accept_deadline) {
    refuse(now, RefuseReason::kNoRoom, "the engine allocated no blocks in time", effects);
  } else if (const auto by = progress_by(); by && now >= *by) {
    expire("the time without a verified segment is over", effects);
  } else if (const auto at = resend_at(); at && now >= *at) {
    ask_for_missing(now, effects);
  }
}

void ReceiverHandoff::ask_for_missing(TimePoint now, Effects& effects) {
  Resend resend{handoff_, {}};
  // Which ones are missing is known only once SENT counts them all; until then the sender knows.
  for (uint32_t segment = 0; sent_ == needed_ && segment < map_.segments(); ++segment) {
    if (resend.segments.size() == kMaxResend) break;
    if (!present(segment)) resend.segments.push_back(segment);
  }
  effects.messages.emplace_back(std::move(resend));
  stirred_at_ = now;
  ++resends_;
}

void ReceiverHandoff::on_message(TimePoint now, const Message& message, Effects& effects) {
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
  } else if (!live) {
    return;  // late
  } else if (const auto* refuse = std::get_if<Refuse>(&message)) {
    finish(End::kRefused,
           Status(Code::kRefused,
                  std::string(refuse_reason_name(refuse->reason)) + ": " + refuse->text),
           effects);
  } else if (std::holds_alternative<Queued>(message)) {
    if (state_ == State::kExpecting) state_ = State::kContacted;
  } else if (const auto* offer = std::get_if<Offer>(&message)) {
    on_offer(now, *offer, effects);
  } else if (std::holds_alternative<Miss>(message) && state_ < State::kOffered && claimed() &&
             expectation_->flow == Flow::kFetch) {
    finish(End::kRefused, Status(Code::kNotFound, "the holder has none of the chunks"), effects);
  } else if (const auto* sent = std::get_if<Sent>(&message);
             sent != nullptr && state_ == State::kReceiving) {
    on_sent(now, *sent, effects);
  } else {
    unexpected(message, effects);
  }
}

void ReceiverHandoff::on_offer(TimePoint now, const Offer& offer, Effects& effects) {
  if (offer_) {
    if (offer != *offer_)
      end_failed(Code::kProtocol, "a second OFFER differs from the first", effects);
    return;
  }
  if (const Status status = check_offer(offer); !status.ok()) {
    end_failed(Code::kProtocol, status.message(), effects);
    return;
  }
  state_ = State::kOffered;
  offer_ = offer;
  map_ = SegmentMap(offer);
  if (claimed()) compare(now, effects);
}

void ReceiverHandoff::on_sent(TimePoint now, const Sent& sent, Effects& effects) {
  if (sent.segments > needed_ || sent.all != (sent.segments == needed_)) {
    end_failed(Code::kProtocol,
               "SENT counts " + number(sent.segments) + " segments" + (sent.all ? " (all)" : "") +
                   ", " + number(needed_) + " are needed",
               effects);
    return;
  }
  if (sent.segments <= sent_) return;  // doubled
  if (sent_ <= verified_count_) progress_at_ = now;
  sent_ = static_cast<uint32_t>(sent.segments);
  stirred_at_ = now;
}

void ReceiverHandoff::finish(End end, Status why, Effects& effects) {
  state_ = State::kEnded;
  effects.end = end;
  effects.why = std::move(why);
  become_quiet_if_done(effects);
}

void ReceiverHandoff::expire(std::string what, Effects& effects) {
  effects.messages.emplace_back(Cancel{handoff_, bounded_text(what)});
  finish(End::kExpired, Status(Code::kDeadlineExceeded, std::move(what)), effects);
}

void ReceiverHandoff::end_failed(Code code, std::string text, Effects& effects) {
  effects.messages.emplace_back(Failed{handoff_, code, bounded_text(text)});
  finish(End::kFailed, Status(code, std::move(text)), effects);
}

void ReceiverHandoff::unexpected(const Message& message, Effects& effects) {
  end_failed(Code::kProtocol,
             std::string(message_name(message)) + " does not belong into the receiver's state '" +
                 state_name(state_) + "'",
             effects);
}

void ReceiverHandoff::become_quiet_if_done(Effects& effects) {
  if (state_ != State::kEnded || copying_ > 0) return;
  if (!quiet_) effects.quiet = true;
  quiet_ = true;
  if (std::exchange(drained_owed_, false)) effects.messages.emplace_back(Drained{handoff_});
}

}  // namespace baton::protocol
