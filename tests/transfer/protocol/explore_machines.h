// The two machines as the exploration sees them: see explore_steps.h.
#pragma once

#include <algorithm>

#include "tests/transfer/protocol/explore_steps.h"

namespace baton::protocol {

// The product's machines, or what is derived from them: `M` is constructed and called alike.
template <typename M>
class SenderMaker {
 public:
  using Machine = M;
  explicit SenderMaker(const Scenario& scenario) : scenario_(scenario) {}
  M fresh() const {
    return M(some_handoff(), {.max_publishes_per_segment = scenario_.max_publishes},
             kStart + kBudget);
  }
  TimePoint time_of(const M& machine, Input input) const {
    return input == Input::kDeadline ? *machine.next_deadline() : kStart + kBudget;
  }
  View view(const M& machine) const;
  void apply(M& machine, Input input, uint8_t argument, const Message* message, Effects& effects,
             Step& step) const;

 private:
  Scenario scenario_;
};

template <typename M>
class ReceiverMaker {
 public:
  using Machine = M;
  explicit ReceiverMaker(const Scenario& scenario) : scenario_(scenario) {}
  M fresh() const {
    return M(some_handoff(), {.max_bad_copies = scenario_.max_bad_copies}, kStart);
  }
  TimePoint time_of(const M& machine, Input input) const {
    const TimePoint next = *machine.next_deadline();
    if (input == Input::kDeadline) return next;
    if (input == Input::kBudgetDeadline) return kStart + kBudget;
    return std::max(next, kStart + ReceiverConfig().progress_deadline);
  }
  View view(const M& machine) const;
  void apply(M& machine, Input input, uint8_t argument, const Message* message, Effects& effects,
             Step& step) const;

 private:
  Scenario scenario_;
};

template <typename M>
View SenderMaker<M>::view(const M& machine) const {
  View view{.state = static_cast<uint8_t>(machine.state()),
            .live = machine.state() != M::State::kEnded,
            .quiet = machine.quiet(),
            .peer_drained = machine.peer_drained(),
            .can_take = machine.next_segment().has_value(),
            .under_way = machine.publishes_under_way(),
            .unacknowledged = machine.unacknowledged_bytes(),
            .published = machine.published_bytes()};
  for (uint32_t i = 0; i < machine.segments().segments(); ++i) {
    if (machine.acknowledged(i)) view.segments |= static_cast<uint8_t>(1u << i);
  }
  if (const auto deadline = machine.next_deadline()) view.deadline = *deadline - kStart;
  return view;
}

template <typename M>
void SenderMaker<M>::apply(M& machine, Input input, uint8_t argument, const Message* message,
                           Effects& effects, Step& step) const {
  switch (input) {
    case Input::kQueued:
      return machine.queued(kStart, effects);
    case Input::kOffer:
      return machine.offer(kStart, scenario_.offered(), effects);
    case Input::kReady:
      for (uint32_t i = 0; i < machine.segments().segments(); ++i) {
        if (argument == 255 || argument == i) machine.segment_ready(kStart, i);
      }
      return;
    case Input::kTake:
      step.taken = machine.take();
      return;
    case Input::kGiveBack:
      return machine.give_back(kStart, argument, effects);
    case Input::kPublished:
      return machine.published(kStart, argument, effects);
    case Input::kPublishDone:
      return machine.publish_done(kStart, argument, effects);
    case Input::kStop:
      return machine.abort(kStart, End::kCancelled, {}, effects);
    case Input::kFail:
      return machine.abort(kStart, End::kFailed, Status(Code::kInternal, "broken"), effects);
    case Input::kLost:
      return machine.peer_lost(kStart, {}, effects);
    case Input::kMessage:
      return machine.on_message(kStart, *message, effects);
    default:
      BATON_CHECK(false, "no input of a sender");
  }
}

template <typename M>
View ReceiverMaker<M>::view(const M& machine) const {
  View view{.state = static_cast<uint8_t>(machine.state()),
            .live = machine.state() != M::State::kEnded,
            .quiet = machine.quiet(),
            .peer_drained = machine.peer_drained(),
            .undecided = machine.state() == M::State::kOffered && machine.claimed(),
            .claimed = machine.claimed(),
            .under_way = machine.copies_under_way()};
  for (uint32_t i = 0; i < machine.segments().segments(); ++i) {
    if (machine.present(i)) view.segments |= static_cast<uint8_t>(1u << i);
  }
  for (uint16_t i = 0; i < scenario_.layers; ++i) {
    if (machine.layer_complete(i)) view.layers |= static_cast<uint8_t>(1u << i);
  }
  if (const auto deadline = machine.next_deadline()) view.deadline = *deadline - kStart;
  return view;
}

template <typename M>
void ReceiverMaker<M>::apply(M& machine, Input input, uint8_t argument, const Message* message,
                             Effects& effects, Step& step) const {
  switch (input) {
    case Input::kBegin:
      return machine.begin(kStart, expectation_of(scenario_.whole(), scenario_.flow), effects);
    case Input::kAccept:
      return machine.accept(kStart,
                            {.held_tokens = scenario_.held_tokens,
                             .held_chunks = scenario_.held_chunks,
                             .window_bytes = scenario_.window_segments * uint64_t{64}},
                            effects);
    case Input::kRefuse:
      return machine.refuse(kStart, RefuseReason::kNoRoom, "full", effects);
    case Input::kSegment:
      step.arrival = machine.on_segment(kStart, argument, machine.segments().bytes(argument));
      return;
    case Input::kCopyGood:
    case Input::kCopyBad:
      return machine.copy_done(kStart, argument, input == Input::kCopyGood, effects);
    case Input::kStop:
      return machine.abort(kStart, {}, effects);
    case Input::kFail:
      return machine.fail(kStart, {}, effects);
    case Input::kLost:
      return machine.peer_lost(kStart, {}, effects);
    case Input::kMessage:
      return machine.on_message(kStart, *message, effects);
    default:
      BATON_CHECK(false, "no input of a receiver");
  }
}

}  // namespace baton::protocol
