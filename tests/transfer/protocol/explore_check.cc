// What must hold: at every step of a machine, after every event, and at the end of time.
#include <bit>

#include "tests/transfer/protocol/explore.h"

namespace baton::protocol {

// --- steps of the machines, and what is said

const Step& Explorer::sender_step(Input input, uint8_t argument) {
  const Step& step = senders_.step(next_.sender, input, argument);
  const bool had_ended = next_.sender_end != 0;
  next_.sender = step.next;
  if (step.end) {
    require(!had_ended, "the sender ends twice");
    require(*step.end != End::kCommitted || flag(kReceiverCommitted),
            "the sender believes in a commit that is none");
    next_.sender_end = number(*step.end);
  }
  if (step.quiet) {
    require(next_.sender_end != 0, "the sender is quiet before its end");
    require(!flag(kSenderQuiet), "the sender becomes quiet twice");
    require(next_.reading == 0, "the sender is quiet and a publish reads its source");
    set(kSenderQuiet);
  }
  for (const uint8_t message : step.messages) {
    require(!flag(kSenderStale), "the sender speaks to a peer that is gone");
    check_said_by_sender(messages_.at(message), had_ended);
    say(true, message);
  }
  return step;
}

const Step& Explorer::receiver_step(Input input, uint8_t argument) {
  const Step& step = receivers_.step(next_.receiver, input, argument);
  const bool had_ended = next_.receiver_end != 0;
  next_.receiver = step.next;
  if (step.end) {
    require(!had_ended, "the receiver ends twice");
    next_.receiver_end = number(*step.end);
    if (*step.end == End::kCommitted) {
      set(kReceiverCommitted);
      require((next_.right | held_) == all_, "the receiver commits and a segment is not right");
    }
  }
  if (step.quiet) {
    require(next_.receiver_end != 0, "the receiver is quiet before its end");
    require(!flag(kReceiverQuiet), "the receiver becomes quiet twice");
    require((next_.copying_right | next_.copying_wrong) == 0,
            "the receiver is quiet and a copy is under way");
    set(kReceiverQuiet);
  }
  for (const uint8_t message : step.messages) {
    require(!flag(kReceiverStale), "the receiver speaks to a peer that is gone");
    check_said_by_receiver(messages_.at(message), had_ended);
    say(false, message);
  }
  return step;
}

void Explorer::check_said_by_sender(const Message& message, bool had_ended) {
  const bool drained = std::holds_alternative<Drained>(message);
  require(drained || !had_ended, "the sender speaks after its end");
  if (drained) {
    require(next_.sender_end != 0 && next_.reading == 0, "the sender says DRAINED and still reads");
    set(kSenderDrained);
  }
  if (std::holds_alternative<Cancel>(message) || std::holds_alternative<Failed>(message)) {
    set(kSaidStop);
  }
  if (const auto* sent = std::get_if<Sent>(&message)) {
    require(sent->segments == static_cast<uint64_t>(std::popcount(next_.published)),
            "SENT counts other than what was published");
    require(sent->all == ((next_.published | held_) == all_), "SENT says all, or not, wrongly");
  }
}

void Explorer::check_said_by_receiver(const Message& message, bool had_ended) {
  const bool drained = std::holds_alternative<Drained>(message);
  require(drained || !had_ended, "the receiver speaks after its end");
  if (drained) {
    require(next_.receiver_end != 0 && (next_.copying_right | next_.copying_wrong) == 0,
            "the receiver says DRAINED and still writes");
    set(kReceiverDrained);
  }
  if (const auto* ack = std::get_if<Ack>(&message)) {
    require((ack->words[0] & ~uint64_t{next_.right}) == 0, "ACK of a segment that is not right");
  }
  if (std::holds_alternative<Commit>(message)) {
    require((next_.right | held_) == all_, "COMMIT and a segment is not right");
  }
}

// --- what must hold after every event

void Explorer::check() {
  if (next_.sender != 0) {
    const View& view = senders_.view(next_.sender);
    require(view.broken.empty(), view.broken.c_str());
    require(view.live == (next_.sender_end == 0), "the sender's state and its end differ");
    require(view.quiet == flag(kSenderQuiet), "the sender's quiet() and its word differ");
    require(flag(kSenderQuiet) == (next_.sender_end != 0 && next_.reading == 0),
            "the sender is quiet exactly when nothing is read after its end");
    require(view.unacknowledged <= scenario_.window_segments * uint64_t{64},
            "the window is exceeded");
    if (view.live) {
      require(view.unacknowledged == bytes_of(next_.in_window), "the window is counted wrongly");
    }
  }
  if (next_.receiver != 0) {
    const View& view = receivers_.view(next_.receiver);
    require(view.broken.empty(), view.broken.c_str());
    require(view.live == (next_.receiver_end == 0), "the receiver's state and its end differ");
    require(view.quiet == flag(kReceiverQuiet), "the receiver's quiet() and its word differ");
    const bool copying = (next_.copying_right | next_.copying_wrong) != 0;
    require(flag(kReceiverQuiet) == (next_.receiver_end != 0 && !copying),
            "the receiver is quiet exactly when nothing is copied after its end");
    require((view.segments & ~(next_.right | held_)) == 0, "a segment is present and not right");
    for (uint8_t i = 0; i < map_.segments(); ++i) {
      if (in(view.layers, static_cast<uint8_t>(map_.id(i).layer))) {
        require(in(next_.right | held_, i), "a layer is complete and a segment of it not right");
      }
    }
  }
}

// Nothing can happen any more, to the end of time.
void Explorer::check_nothing_left() {
  if (next_.sender != 0) {
    require(next_.sender_end != 0, "the sender never ends");
    require(flag(kSenderQuiet), "the sender never becomes quiet");
  }
  if (next_.receiver != 0) {
    require(next_.receiver_end != 0, "the receiver never ends");
    require(flag(kReceiverQuiet), "the receiver never becomes quiet");
  }
  const bool committed = next_.receiver_end == number(End::kCommitted);
  require(next_.sender_end != number(End::kCommitted) || flag(kReceiverCommitted),
          "the sender believes in a commit that is none");
  if (scenario_.must_commit && !flag(kGaveUp)) {
    require(committed && next_.sender_end == number(End::kCommitted),
            "nobody gave up and it is not committed on both sides");
  }
  const bool broke = next_.cut != scenario_.cut || next_.crash != scenario_.crash;
  if (broke || next_.sender == 0 || next_.receiver == 0) return;
  require(!committed || next_.sender_end == number(End::kCommitted) || flag(kSaidStop),
          "the receiver committed, and the sender does not know though it did not give up");
  if (flag(kSaidStop)) {
    require(senders_.view(next_.sender).peer_drained, "the sender hears no DRAINED");
  }
}

}  // namespace baton::protocol
