// What each event does to the system.
#include <algorithm>

#include "tests/transfer/protocol/explore.h"

namespace baton::protocol {

// --- what happens then

void Explorer::happen(What what, uint8_t argument) {
  if (what >= What::kCut) return happen_to_connection(what);
  switch (what) {
    case What::kSenderNext:
    case What::kSenderBudget:
    case What::kReceiverNext:
    case What::kReceiverProgress:
    case What::kReceiverBudget:
      if (argument != 0) --next_.early;
      fire(what);
      // Where nobody gave up, a lost segment must not need that.
      require(argument != 0 || !scenario_.must_commit || !flag(kGaveUp) ||
                  (current_.flags & kGaveUp) != 0,
              "nobody gave up, and only a deadline can end it");
      return;
    case What::kArriveRight:
    case What::kArriveWrong: {
      const bool right = what == What::kArriveRight;
      take_off_channel(argument, right);
      if (next_.receiver == 0) return;
      const bool known = in(next_.copying_right | next_.copying_wrong | next_.right, argument);
      const bool ended = next_.receiver_end != 0;
      const bool receiving = receivers_.view(next_.receiver).state ==
                             static_cast<uint8_t>(ReceiverHandoff::State::kReceiving);
      const Step& step = receiver_step(Input::kSegment, argument);
      using Arrival = ReceiverHandoff::Arrival;
      if (ended || !receiving || in(held_, argument)) {
        require(step.arrival == Arrival::kUnwanted, "a copy begins that nobody wants");
      } else {
        require(step.arrival == (known ? Arrival::kDuplicate : Arrival::kCopy),
                "an arrival is judged wrongly");
      }
      if (step.arrival != Arrival::kCopy) return;
      require(!flag(kReceiverDrained), "a copy begins after DRAINED");
      add(right ? next_.copying_right : next_.copying_wrong, argument);
      return;
    }
    case What::kLose:
      --next_.lose;
      return take_off_channel(argument, true);
    case What::kRepeat:
      --next_.repeat;
      return put_on_channel(argument);
    case What::kSpoil:
      --next_.spoil;
      take_off_channel(argument, true);
      add(next_.wrong_on_channel[in(next_.wrong_on_channel[0], argument) ? 1 : 0], argument);
      return;
    case What::kBegin:
    case What::kAccept:
    case What::kRefuse:
    case What::kCopied:
    case What::kReceiverStops:
    case What::kReceiverIsTold:
    case What::kReceiverHears:
      return happen_to_receiver(what, argument);
    default:
      return happen_to_sender(what, argument);
  }
}

void Explorer::happen_to_sender(What what, uint8_t argument) {
  switch (what) {
    case What::kQueued:
    case What::kOffer:
      if (next_.sender == 0) next_.sender = senders_.fresh();
      sender_step(what == What::kQueued ? Input::kQueued : Input::kOffer);
      return;
    case What::kCompute:
      if (scenario_.computed_at_once) {
        next_.computed = static_cast<uint8_t>(map_.segments());
        sender_step(Input::kReady, 255);
      } else {
        // Layer by layer.
        const uint32_t chunks = map_.chunks();
        const uint32_t segment =
            map_.index({0, argument % chunks, static_cast<uint16_t>(argument / chunks)});
        ++next_.computed;
        sender_step(Input::kReady, static_cast<uint8_t>(segment));
      }
      return;
    case What::kTake: {
      const std::optional<uint32_t> taken = sender_step(Input::kTake).taken;
      require(taken.has_value(), "next_segment() has a value and take() has none");
      if (!taken) return;
      const auto segment = static_cast<uint8_t>(*taken);
      require(next_.sender_end == 0, "a segment is taken after the end");
      require(!flag(kSenderDrained), "a segment is taken after DRAINED");
      require(!in(next_.reading | next_.gathering, segment),
              "a segment is published while an earlier publish of it is under way");
      require(!in(held_, segment), "a held segment is taken");
      require(!in(next_.in_window, segment), "a segment that is in the window is taken");
      add(next_.gathering, segment);
      add(next_.reading, segment);
      add(next_.in_window, segment);
      require(bytes_of(next_.in_window) <= scenario_.window_segments * uint64_t{64},
              "the window is exceeded");
      return;
    }
    case What::kGiveBack:
      --next_.give_back;
      remove(next_.gathering, argument);
      remove(next_.reading, argument);
      remove(next_.in_window, argument);
      sender_step(Input::kGiveBack, argument);
      return;
    case What::kPublish:
      return publish(argument);
    case What::kPublishDone:
      remove(next_.reading, argument);
      if (next_.sender_end != 0) remove(next_.gathering, argument);
      sender_step(Input::kPublishDone, argument);
      return;
    case What::kPublishFails:
      --next_.stop;
      set(kGaveUp);
      remove(next_.reading, argument);
      remove(next_.gathering, argument);
      sender_step(Input::kPublishDone, argument);
      sender_step(Input::kFail);
      return;
    case What::kSenderStops:
    case What::kSenderFails:
      --next_.stop;
      set(kGaveUp);
      sender_step(what == What::kSenderStops ? Input::kStop : Input::kFail);
      return;
    default:
      return sender_hears();
  }
}

void Explorer::publish(uint8_t segment) {
  remove(next_.gathering, segment);
  add(next_.published, segment);
  if (flag(kUp)) put_on_channel(segment);
  sender_step(Input::kPublished, segment);
  // Packed: in the same step the source is not read any more.
  if (scenario_.publish != Scenario::Publish::kPacked || !in(next_.reading, segment)) return;
  remove(next_.reading, segment);
  sender_step(Input::kPublishDone, segment);
}

void Explorer::put_on_channel(uint8_t segment) {
  add(next_.right_on_channel[in(next_.right_on_channel[0], segment) ? 1 : 0], segment);
}

void Explorer::take_off_channel(uint8_t segment, bool right) {
  auto& copies = right ? next_.right_on_channel : next_.wrong_on_channel;
  remove(copies[in(copies[1], segment) ? 1 : 0], segment);
}

void Explorer::happen_to_receiver(What what, uint8_t argument) {
  switch (what) {
    case What::kBegin:
      if (next_.receiver == 0) next_.receiver = receivers_.fresh();
      receiver_step(Input::kBegin);
      return;
    case What::kAccept:
      receiver_step(Input::kAccept);
      return;
    case What::kRefuse:
      --next_.stop;
      set(kGaveUp);
      receiver_step(Input::kRefuse);
      return;
    case What::kCopied: {
      const bool right = in(next_.copying_right, argument);
      remove(right ? next_.copying_right : next_.copying_wrong, argument);
      // What is copied over bytes that were right already and is wrong spoils them.
      if (right) add(next_.right, argument);
      if (!right) remove(next_.right, argument);
      receiver_step(right ? Input::kCopyGood : Input::kCopyBad, argument);
      return;
    }
    case What::kReceiverStops:
    case What::kReceiverIsTold:
      --next_.stop;
      set(kGaveUp);
      receiver_step(what == What::kReceiverStops ? Input::kStop : Input::kFail);
      return;
    default:
      return receiver_hears();
  }
}

void Explorer::fire(What what) {
  const bool sender = what == What::kSenderNext || what == What::kSenderBudget;
  const Input input = what == What::kSenderNext || what == What::kReceiverNext ? Input::kDeadline
                      : what == What::kReceiverProgress ? Input::kProgressDeadline
                                                        : Input::kBudgetDeadline;
  const Step& step = sender ? sender_step(input) : receiver_step(input);
  if (step.end) set(kGaveUp);
}

void Explorer::happen_to_connection(What what) {
  const auto sender_dies = [this] {
    next_.sender = 0;
    next_.sender_end = next_.computed = next_.gathering = next_.reading = next_.in_window = 0;
    next_.published = 0;
    next_.to_sender.fill(0);
    clear(kSenderStale | kSenderQuiet | kSenderDrained | kSenderBuried | kSaidStop);
    set(kSenderDown | kSenderKnows);
  };
  const auto receiver_dies = [this] {
    next_.receiver = 0;
    next_.receiver_end = next_.copying_right = next_.copying_wrong = next_.right = 0;
    next_.right_on_channel = next_.wrong_on_channel = {};
    next_.to_receiver.fill(0);
    clear(kReceiverStale | kReceiverQuiet | kReceiverDrained | kReceiverBuried);
    set(kReceiverDown | kReceiverKnows);
  };
  set(kGaveUp);
  switch (what) {
    case What::kCut:
      --next_.cut;
      return clear(kUp);  // what was said arrives, until that side notices
    case What::kSenderNotices:
      set(kSenderKnows);
      next_.to_sender.fill(0);
      if (next_.sender == 0) return;
      set(kSenderStale);
      sender_step(Input::kLost);
      return;
    case What::kReceiverNotices:
      set(kReceiverKnows);
      next_.to_receiver.fill(0);
      next_.right_on_channel = next_.wrong_on_channel = {};
      if (next_.receiver == 0) return;
      set(kReceiverStale);
      receiver_step(Input::kLost);
      return;
    case What::kConnect:
      clear(kSenderKnows | kReceiverKnows);
      return set(kUp);
    case What::kSenderCrashes:
      --next_.crash;
      clear(kUp);
      return sender_dies();
    case What::kReceiverCrashes:
      --next_.crash;
      clear(kUp);
      return receiver_dies();
    case What::kSenderRestarts:
      return clear(kSenderDown);
    default:
      return clear(kReceiverDown);
  }
}

// --- what is said, and heard

void Explorer::say(bool from_sender, uint8_t message) {
  if (flag(kUp)) push(from_sender ? next_.to_receiver : next_.to_sender, message);
}

void Explorer::note_before_sender_hears(const Message& message) {
  if (const auto* ack = std::get_if<Ack>(&message)) {
    next_.in_window = static_cast<uint8_t>(next_.in_window & ~ack->words[0]);
  }
  if (const auto* resend = std::get_if<Resend>(&message)) {
    for (uint8_t i = 0; i < map_.segments(); ++i) {
      const auto& named = resend->segments;
      const bool asked = named.empty() || std::count(named.begin(), named.end(), i) > 0;
      if (asked && !in(next_.gathering, i)) remove(next_.in_window, i);
    }
  }
}

void Explorer::sender_hears() {
  const uint8_t heard = pop(next_.to_sender);
  const Message& message = messages_.at(heard);
  const bool stop =
      std::holds_alternative<Cancel>(message) || std::holds_alternative<Failed>(message);
  const auto answer = [this](const Message& said) { say(true, messages_.number(said)); };
  if (std::holds_alternative<Fetch>(message)) {
    if (next_.sender != 0 || flag(kSenderBuried)) {
      return answer(Refuse{some_handoff(), RefuseReason::kDuplicate, "claimed"});
    }
    if (scenario_.holder_has_chunks == 0) {
      set(kGaveUp);
      return answer(Miss{some_handoff()});
    }
    next_.sender = senders_.fresh();
    sender_step(Input::kOffer);
  } else if (next_.sender != 0 && !flag(kSenderStale)) {
    note_before_sender_hears(message);
    sender_step(Input::kMessage, heard);
  } else if (stop) {
    if (next_.sender == 0) set(kSenderBuried | kGaveUp);
    answer(Drained{some_handoff()});
  }
}

void Explorer::receiver_hears() {
  const uint8_t heard = pop(next_.to_receiver);
  const Message& message = messages_.at(heard);
  const bool stop =
      std::holds_alternative<Cancel>(message) || std::holds_alternative<Failed>(message);
  const bool opens =
      std::holds_alternative<Queued>(message) || std::holds_alternative<Offer>(message);
  const auto answer = [this](const Message& said) { say(false, messages_.number(said)); };
  if (next_.receiver != 0 && !flag(kReceiverStale)) {
    receiver_step(Input::kMessage, heard);
  } else if (opens && (next_.receiver != 0 || flag(kReceiverBuried))) {
    answer(Refuse{some_handoff(), RefuseReason::kExpired, "ended already"});
  } else if (opens) {
    next_.receiver = receivers_.fresh();
    receiver_step(Input::kMessage, heard);
  } else if (stop) {
    if (next_.receiver == 0) set(kReceiverBuried | kGaveUp);
    answer(Drained{some_handoff()});
  }
}

}  // namespace baton::protocol
