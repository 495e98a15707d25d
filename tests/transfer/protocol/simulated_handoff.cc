#include "tests/transfer/protocol/simulated_handoff.h"

#include <sstream>
#include <utility>

#include "transfer/protocol/codec.h"

namespace baton::protocol {

SimulatedHandoff::SimulatedHandoff(uint64_t seed, Hazards hazards)
    : random_(seed), hazards_(hazards) {
  deadline_ = kStart + seconds(3) + within(seconds(30));
  draw_offer();
  if (below(3) == 0) {
    start_fetch();
  } else {
    start_push();
  }
  start_accidents();
}

void SimulatedHandoff::later(Duration after, std::function<void()> action) {
  events_.push({now_ + after, events_made_++, std::move(action)});
}

void SimulatedHandoff::require(bool holds, const std::string& what) {
  if (!holds && broken_.empty()) {
    broken_ = what + " at " + std::to_string(to_ms(now_ - kStart)) + " ms";
  }
}

void SimulatedHandoff::draw_offer() {
  std::vector<GroupOffer> groups;
  for (uint16_t i = 0, count = 1 + below(2); i < count; ++i) {
    groups.push_back(some_group(i, static_cast<uint16_t>(1 + below(4)), 1 + below(5)));
  }
  whole_ = some_offer(1 + below(100), 0, groups);
}

void SimulatedHandoff::start_push() {
  flow_ = Flow::kPush;
  offered_ = whole_;
  map_ = SegmentMap(offered_);
  later(within(milliseconds(500)), [this] {
    if (tombstone_) return;
    make_sender();
    if (chance(0.5)) sender_step([this](Effects& e) { sender_->queued(now_, e); });
    if (!chance(hazards_.never_offer)) later(within(seconds(1)), [this] { prefill(); });
  });
  if (!chance(hazards_.never_claim)) later(within(milliseconds(500)), [this] { begin(); });
}

void SimulatedHandoff::start_fetch() {
  flow_ = Flow::kFetch;
  const auto run = static_cast<uint32_t>(1 + below(static_cast<uint32_t>(whole_.keys.size())));
  offered_ = run == whole_.keys.size() ? whole_ : some_offer(run * 16, 0, whole_.groups);
  map_ = SegmentMap(offered_);
  later(within(milliseconds(10)), [this] { begin(); });
}

void SimulatedHandoff::start_accidents() {
  if (chance(hazards_.stop)) {
    later(within(seconds(3)), [this] {
      if (!sender_) return;
      const End end = below(2) == 0 ? End::kCancelled : End::kFailed;
      sender_step([&](Effects& e) {
        sender_->abort(now_, end, Status(Code::kInternal, "engine stopped"), e);
      });
    });
  }
  if (chance(hazards_.stop)) {
    later(within(seconds(3)), [this] {
      const bool told = below(2) == 0;
      receiver_step([&](Effects& e) {
        if (told) {
          receiver().fail(now_, Status(Code::kUnavailable, "told so"), e);
        } else {
          receiver().abort(now_, {}, e);
        }
      });
    });
  }
  if (chance(hazards_.cut)) {
    later(within(seconds(3)), [this] {
      cut_ = true;  // what is under way still arrives, until that side notices
      later(within(seconds(1)), [this] {
        if (!sender_) return;
        sender_side_.lost = true;
        sender_step([this](Effects& e) { sender_->peer_lost(now_, {}, e); });
      });
      later(within(seconds(1)), [this] {
        if (!receiver_) return;
        receiver_side_.lost = true;
        receiver_step([this](Effects& e) { receiver_->peer_lost(now_, {}, e); });
      });
    });
  }
}

void SimulatedHandoff::make_sender() {
  if (!sender_) sender_.emplace(some_handoff(), sender_config_, deadline_);
}

ReceiverHandoff& SimulatedHandoff::receiver() {
  if (!receiver_) receiver_.emplace(some_handoff(), receiver_config_, now_);
  return *receiver_;
}

void SimulatedHandoff::begin() {
  Expectation expectation = expectation_of(whole_, flow_);
  expectation.deadline = deadline_;
  receiver_step([&](Effects& e) { receiver().begin(now_, std::move(expectation), e); });
}

// The engine computes its segments: layer by layer, a few chunks at a time.
void SimulatedHandoff::prefill() {
  if (sender_->state() == SenderHandoff::State::kEnded) return;
  sender_step([this](Effects& e) { sender_->offer(now_, offered_, e); });
  Duration after{};
  const uint32_t step = 1 + below(map_.chunks());
  const Duration pace = chance(hazards_.slow_compute) ? seconds(3) : milliseconds(10);
  for (uint32_t first = 0; first < map_.chunks(); first += step) {
    for (uint16_t layer = 0; layer < map_.max_layers(); ++layer) {
      after += within(pace);
      later(after, [this, first, step, layer] {
        const uint32_t end = std::min(first + step, map_.chunks());
        for (uint32_t chunk = first; chunk < end; ++chunk) {
          for (uint16_t group = 0; group < map_.groups(); ++group) {
            if (layer < map_.layers(group)) {
              sender_->segment_ready(now_, map_.index({group, chunk, layer}));
            }
          }
        }
        pump();
      });
    }
  }
}

void SimulatedHandoff::answer_fetch() {
  if (chance(hazards_.never_offer)) {
    Effects effects;
    effects.messages.emplace_back(Miss{some_handoff()});
    apply(sender_side_, receiver_side_, effects);
    return;
  }
  make_sender();
  later(within(milliseconds(50)), [this] { prefill(); });
}

// The receiving engine has the offer: it finds blocks, or it does not.
void SimulatedHandoff::decide() {
  if (chance(hazards_.never_accept)) return;
  later(within(milliseconds(300)), [this] {
    if (chance(hazards_.refuse)) {
      receiver_step([this](Effects& e) {
        if (receiver_->state() != ReceiverHandoff::State::kEnded) {
          receiver_->refuse(now_, RefuseReason::kNoRoom, "full", e);
        }
      });
      return;
    }
    Acceptance acceptance;
    if (below(3) == 0) acceptance.held_tokens = below(120);
    if (below(3) == 0) {
      acceptance.held_chunks.resize(map_.chunks());
      for (uint32_t i = 0; i < map_.chunks(); ++i) acceptance.held_chunks[i] = below(2) == 0;
    }
    acceptance.window_bytes = 16 * 5 + below(2000);
    held_ = chunks_held(map_, acceptance.held_tokens, acceptance.held_chunks);
    receiver_step([&](Effects& e) { receiver_->accept(now_, acceptance, e); });
  });
}

void SimulatedHandoff::pump() {
  if (!sender_) return;
  while (const auto taken = sender_->take()) {
    const uint32_t segment = *taken;
    require(!sender_side_.end, "a segment is taken after the end");
    require(!window_.contains(segment), "a segment that is in the window is taken");
    require(held_.size() == map_.chunks() && !held_[map_.id(segment).chunk],
            "a held segment is taken");
    require(under_way_.insert(segment).second, "two publishes of a segment are under way");
    window_[segment] = false;
    check_sender();
    if (chance(hazards_.give_back)) {
      later(within(milliseconds(5)), [this, segment] {
        window_.erase(segment);
        under_way_.erase(segment);
        sender_step([&](Effects& e) { sender_->give_back(now_, segment, e); });
      });
    } else {
      publish(segment);
    }
  }
}

void SimulatedHandoff::publish(uint32_t segment) {
  const auto done = [this, segment] {
    under_way_.erase(segment);
    sender_step([&](Effects& e) { sender_->publish_done(now_, segment, e); });
  };
  const bool packed = below(2) == 0;
  later(within(milliseconds(3)), [this, segment, packed, done] {
    if (packed) done();
    if (const auto in_window = window_.find(segment); in_window != window_.end()) {
      in_window->second = true;
    }
    put_on_channel(segment);
    sender_step([&](Effects& e) { sender_->published(now_, segment, e); });
    if (!packed) later(within(milliseconds(50)), done);
  });
}

void SimulatedHandoff::put_on_channel(uint32_t segment) {
  const int copies = chance(hazards_.lose) ? 0 : chance(hazards_.dup) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    const bool spoilt = chance(hazards_.spoil);
    const Duration delay = below(8) == 0 ? within(milliseconds(600)) : within(milliseconds(20));
    later(milliseconds(1) + delay, [this, segment, spoilt] { arrive(segment, spoilt); });
  }
}

void SimulatedHandoff::arrive(uint32_t segment, bool spoilt) {
  if (!receiver_) return;
  const bool known = copying_.contains(segment) || verified_.contains(segment);
  const auto arrival = receiver_->on_segment(now_, segment, map_.bytes(segment));
  if (receiver_side_.end) {
    require(arrival == ReceiverHandoff::Arrival::kUnwanted, "a copy begins after the end");
    return;
  }
  require(
      arrival == (known ? ReceiverHandoff::Arrival::kDuplicate : ReceiverHandoff::Arrival::kCopy),
      "an arrival is judged wrongly");
  if (arrival != ReceiverHandoff::Arrival::kCopy) return;
  copying_.insert(segment);
  later(within(milliseconds(5)), [this, segment, spoilt] {
    copying_.erase(segment);
    if (!spoilt && !receiver_side_.end) verified_.insert(segment);
    receiver_step([&](Effects& e) { receiver_->copy_done(now_, segment, !spoilt, e); });
  });
}

void SimulatedHandoff::deliver_to_sender(const Message& message) {
  if (const auto* ack = std::get_if<Ack>(&message)) {
    for (size_t j = 0; j < ack->words.size(); ++j) {
      for (uint32_t bit = 0; bit < 64; ++bit) {
        if (ack->words[j] >> bit & 1) {
          window_.erase(ack->first_word * 64 + static_cast<uint32_t>(j) * 64 + bit);
        }
      }
    }
  }
  if (const auto* resend = std::get_if<Resend>(&message)) {
    ++resends_;
    std::erase_if(window_, [&](const auto& in_window) {
      const auto& named = resend->segments;
      return in_window.second &&
             (named.empty() || std::count(named.begin(), named.end(), in_window.first) > 0);
    });
  }
  if (std::holds_alternative<Fetch>(message)) answer_fetch();
  if (sender_) {
    sender_step([&](Effects& e) { sender_->on_message(now_, message, e); });
  } else if (std::holds_alternative<Cancel>(message) || std::holds_alternative<Failed>(message)) {
    // What a node does for a handoff that it does not know: it answers, and keeps a tombstone.
    tombstone_ = true;
    Effects effects;
    effects.messages.emplace_back(Drained{some_handoff()});
    apply(sender_side_, receiver_side_, effects);
  }
}

void SimulatedHandoff::deliver_to_receiver(const Message& message) {
  receiver_step([&](Effects& e) { receiver().on_message(now_, message, e); });
}

void SimulatedHandoff::sender_step(const std::function<void(Effects&)>& step) {
  Effects effects;
  step(effects);
  apply(sender_side_, receiver_side_, effects);
  check_sender();
  pump();
}

void SimulatedHandoff::receiver_step(const std::function<void(Effects&)>& step) {
  Effects effects;
  step(effects);
  apply(receiver_side_, sender_side_, effects);
  check_receiver();
  if (effects.offered) decide();
}

void SimulatedHandoff::apply(Side& from, Side& to, const Effects& effects) {
  const std::string name = from.name;
  const bool had_ended = from.end.has_value();
  if (effects.end) {
    require(!had_ended, name + " ends twice");
    require(effects.why.ok() == (*effects.end == End::kCommitted), name + "'s reason and end");
    require(now_ <= deadline_ + receiver_config_.record_ttl, name + " ends after its budget");
    from.end = effects.end;
  }
  if (effects.quiet) {
    require(!from.quiet, name + " becomes quiet twice");
    require(from.end.has_value(), name + " is quiet before its end");
    from.quiet = true;
  }
  for (const Message& message : effects.messages) {
    require(!from.lost, name + " speaks to a peer that is gone");
    require(!had_ended || std::holds_alternative<Drained>(message), name + " speaks after its end");
    from.said_stop |= std::holds_alternative<Cancel>(message);
    from.said_stop |= std::holds_alternative<Failed>(message);
    if (cut_) continue;
    const auto frame = encode(message);
    require(frame.ok(), frame.status().to_string());
    if (!frame.ok()) continue;
    const auto decoded =
        decode(*decode_header(*frame), std::span(*frame).subspan(kFrameHeaderBytes));
    require(decoded.ok() && *decoded == message, "a message changes on the wire");
    const TimePoint at = std::max(to.last_delivery.value_or(now_),
                                  now_ + milliseconds(1) + within(milliseconds(30)));
    to.last_delivery = at;
    later(at - now_, [this, message, &to] {
      if (to.lost) return;
      &to == &sender_side_ ? deliver_to_sender(message) : deliver_to_receiver(message);
    });
  }
}

void SimulatedHandoff::check_sender() {
  uint64_t bytes = 0;
  for (const auto& [segment, published] : window_) bytes += map_.bytes(segment);
  if (!sender_side_.end) {
    require(sender_->unacknowledged_bytes() == bytes, "the window is counted wrongly");
  }
  require(sender_->unacknowledged_bytes() <= sender_->window_bytes(), "the window is exceeded");
  require(sender_side_.quiet == (sender_side_.end && under_way_.empty()),
          "the sender is quiet exactly when nothing is read after its end");
}

void SimulatedHandoff::check_receiver() {
  require(receiver_side_.quiet == (receiver_side_.end && copying_.empty()),
          "the receiver is quiet exactly when nothing is copied after its end");
  if (receiver_->state() < ReceiverHandoff::State::kReceiving || held_.empty()) return;
  bool complete = true;
  for (uint32_t segment = 0; segment < map_.segments(); ++segment) {
    const bool present = held_[map_.id(segment).chunk] || verified_.contains(segment);
    complete &= present;
    if (receiver_->state() == ReceiverHandoff::State::kReceiving) {
      require(receiver_->present(segment) == present, "present() is wrong");
    }
  }
  if (receiver_->state() == ReceiverHandoff::State::kReceiving) {
    require(!complete, "all is verified and the receiver does not commit");
  } else if (receiver_side_.end == End::kCommitted) {
    require(complete, "the receiver commits and a segment is not verified");
  }
}

bool SimulatedHandoff::advance_machines() {
  std::optional<TimePoint> next;
  if (sender_) next = sender_->next_deadline();
  if (receiver_) {
    const auto deadline = receiver_->next_deadline();
    if (deadline && (!next || *deadline < *next)) next = deadline;
  }
  if (!next || (!events_.empty() && events_.top().at <= *next)) return false;
  now_ = std::max(now_, *next);
  const auto due = [this](const auto& machine) {
    return machine && machine->next_deadline() && *machine->next_deadline() <= now_;
  };
  if (due(sender_)) {
    sender_step([this](Effects& e) { sender_->advance(now_, e); });
    require(!due(sender_), "the sender's deadline stands after it passed");
  }
  if (due(receiver_)) {
    receiver_step([this](Effects& e) { receiver_->advance(now_, e); });
    require(!due(receiver_), "the receiver's deadline stands after it passed");
  }
  return true;
}

void SimulatedHandoff::run() {
  while (broken_.empty()) {
    if (advance_machines()) continue;
    if (events_.empty()) break;
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.action();
  }
  check_the_end();
}

void SimulatedHandoff::check_the_end() {
  const auto committed = [](const Side& side) { return side.end == End::kCommitted; };
  if (sender_) require(sender_side_.end && sender_side_.quiet, "the sender never ends");
  if (receiver_) require(receiver_side_.end && receiver_side_.quiet, "the receiver never ends");
  require(!committed(sender_side_) || committed(receiver_side_),
          "the sender believes in a commit that is none");
  if (cut_ || !sender_ || !receiver_) return;
  require(!sender_side_.said_stop || sender_->peer_drained(), "the sender hears no DRAINED");
  require(!receiver_side_.said_stop || receiver_->peer_drained(), "the receiver hears no DRAINED");
}

std::string SimulatedHandoff::summary() const {
  std::ostringstream text;
  text << (flow_ == Flow::kPush ? "push" : "fetch") << ", " << map_.segments()
       << " segments, sender " << (sender_side_.end ? end_name(*sender_side_.end) : "-")
       << ", receiver " << (receiver_side_.end ? end_name(*receiver_side_.end) : "-");
  return text.str();
}

}  // namespace baton::protocol
