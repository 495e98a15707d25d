// What the exhaustive exploration needs of a machine: each value that it takes becomes a number,
// and each step from there is made once and remembered. A system of two machines is then a few
// bytes, and exploring it is looking things up.
//
// Time. All events happen at kStart; only a deadline that fires moves the clock, of its machine and
// for this one step. So a value of a machine says how long it has waited since something stirred
// it, and never how late it is; every deadline that is armed can fire in every state.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/transfer/protocol/fixtures.h"

namespace baton::protocol {

// One run of the exploration: what is moved, and how much may go wrong.
struct Scenario {
  std::string name;
  // What is moved.
  Flow flow = Flow::kPush;
  uint32_t tokens = 32;  // 16 a chunk
  uint16_t layers = 2;
  uint32_t window_segments = 2;
  uint32_t held_tokens = 0;        // by the receiver's engine
  std::vector<bool> held_chunks;   // by the receiver's tier
  uint32_t holder_has_chunks = 2;  // fetch: how many the holder offers; 0: MISS
  bool other_keys = false;         // the engines disagree about the prompt
  uint32_t max_publishes = 8, max_bad_copies = 8;
  // In how many steps things are done; fewer is fewer states.
  bool computed_at_once = true;  // else segment by segment
  enum class Publish { kPacked, kInPlace, kEither } publish = Publish::kPacked;
  // How often each may happen.
  uint8_t lose = 0, repeat = 0, spoil = 0, give_back = 0;
  uint8_t stop = 0;   // an engine gives up, a channel fails, blocks are refused
  uint8_t cut = 0;    // the connection breaks and may come back
  uint8_t crash = 0;  // a side dies and may come back without a memory
  uint8_t early = 0;  // a deadline fires though something else could still happen
  // With nothing but a bad channel, both sides must commit.
  bool must_commit = true;

  Offer whole() const {
    Offer offer = some_offer(tokens, layers);
    return offer;
  }
  // What the sender offers.
  Offer offered() const {
    Offer offer = whole();
    if (flow == Flow::kFetch && holder_has_chunks < offer.keys.size()) {
      offer = some_offer(16 * holder_has_chunks, layers);
    }
    if (other_keys) offer.keys.back() = some_key(99);
    return offer;
  }
};

// Every message that was ever said, numbered from 1.
class MessageTable {
 public:
  uint8_t number(const Message& message);
  const Message& at(uint8_t number) const { return messages_[number - 1]; }

 private:
  std::deque<Message> messages_;
};

// What a step does, `argument` being a segment or a message's number.
enum class Input : uint8_t {
  kQueued,
  kOffer,
  kReady,  // argument 255: all segments
  kTake,
  kGiveBack,
  kPublished,
  kPublishDone,
  kBegin,
  kAccept,
  kRefuse,
  kSegment,
  kCopyGood,
  kCopyBad,
  kStop,  // the engine: cancelled
  kFail,  // the engine or somebody who knows: failed
  kLost,
  kMessage,
  kDeadline,          // the next one
  kProgressDeadline,  // the timer was late: the progress deadline is over as well
  kBudgetDeadline,    // and this way all are over
};

struct Step {
  uint32_t next = 0;
  std::vector<uint8_t> messages;
  std::optional<End> end;
  bool offered = false, quiet = false;
  std::optional<uint32_t> taken;
  ReceiverHandoff::Arrival arrival = ReceiverHandoff::Arrival::kUnwanted;
};

// What can be seen of a machine's value. Segment sets are bit masks.
struct View {
  uint8_t state = 0;
  bool live = false, quiet = false, peer_drained = false;
  bool can_take = false;   // sender
  bool undecided = false;  // receiver: claimed, with an offer that was not accepted
  bool claimed = false;
  uint8_t segments = 0;    // acknowledged; present
  uint8_t layers = 0;      // receiver: complete
  uint32_t under_way = 0;  // publishes; copies
  uint64_t unacknowledged = 0;
  uint64_t published = 0;
  std::optional<Duration> deadline;  // after kStart
  std::string broken;                // what is wrong with this value by itself
  bool operator==(const View&) const = default;
};

class MachineSteps {
 public:
  virtual ~MachineSteps() = default;
  virtual uint32_t fresh() = 0;  // numbers begin with 1
  virtual const Step& step(uint32_t machine, Input input, uint8_t argument) = 0;
  const View& view(uint32_t machine) const { return views_[machine - 1]; }
  size_t values() const { return views_.size(); }

 protected:
  std::deque<View> views_;
};

// Of one kind of machine. `Maker` makes a fresh one, and says what each input is to it and how a
// value looks (explore_machines.h).
template <typename Maker>
class StepsOf final : public MachineSteps {
 public:
  using Machine = typename Maker::Machine;

  StepsOf(const Scenario& scenario, MessageTable& messages)
      : maker_(scenario), messages_(messages) {}

  uint32_t fresh() override { return number(maker_.fresh()); }

  const Step& step(uint32_t machine, Input input, uint8_t argument) override {
    const uint64_t key =
        uint64_t{machine} << 16 | static_cast<uint64_t>(input) << 8 | uint64_t{argument};
    const auto [it, is_new] = steps_.try_emplace(key);
    if (is_new) it->second = make_step(machines_[machine - 1], input, argument);
    return it->second;
  }

 private:
  Step make_step(Machine machine, Input input, uint8_t argument) {
    Step step;
    Effects effects;
    const bool is_timer = input == Input::kDeadline || input == Input::kProgressDeadline ||
                          input == Input::kBudgetDeadline;
    TimePoint now = kStart;
    if (is_timer) {
      now = maker_.time_of(machine, input);
      // To the nanosecond: before the next deadline nothing happens.
      Machine early = machine;
      early.advance(*machine.next_deadline() - nanoseconds(1), effects);
      if (!(early == machine) || !effects.messages.empty()) too_early_ = true;
      machine.advance(now, effects);
    } else {
      maker_.apply(machine, input, argument,
                   input == Input::kMessage ? &messages_.at(argument) : nullptr, effects, step);
    }
    for (const Message& message : effects.messages) {
      step.messages.push_back(messages_.number(message));
    }
    step.end = effects.end;
    step.offered = effects.offered;
    step.quiet = effects.quiet;
    step.next = number(machine);
    std::string& broken = views_[step.next - 1].broken;
    if (too_early_) broken = "a deadline fires before its time";
    if (effects.end && effects.why.ok() != (*effects.end == End::kCommitted)) {
      broken = "the reason does not fit the end";
    }
    if (is_timer && machine.next_deadline() && *machine.next_deadline() <= now) {
      broken = "a deadline stands after it fired";
    }
    return step;
  }

  uint32_t number(const Machine& machine) {
    View view = maker_.view(machine);
    const size_t hash = hash_of(view);
    const auto [first, last] = numbers_.equal_range(hash);
    for (auto it = first; it != last; ++it) {
      if (machines_[it->second - 1] == machine) return it->second;
    }
    view.broken = what_deadlines_do(machine);
    machines_.push_back(machine);
    views_.push_back(std::move(view));
    const auto number = static_cast<uint32_t>(machines_.size());
    numbers_.emplace(hash, number);
    return number;
  }

  // Deadlines alone end every live machine, and soon.
  static std::string what_deadlines_do(Machine machine) {
    for (int fired = 0; machine.state() != Machine::State::kEnded; ++fired) {
      const auto deadline = machine.next_deadline();
      if (!deadline) return "it is alive and has no deadline";
      if (fired == 50) return "its deadlines do not end it";
      Effects effects;
      machine.advance(*deadline, effects);
    }
    return machine.next_deadline() ? "it has ended and still has a deadline" : "";
  }

  static size_t hash_of(const View& view) {
    size_t hash = 0;
    for (const uint64_t part :
         {uint64_t{view.state}, uint64_t{view.live}, uint64_t{view.quiet},
          uint64_t{view.peer_drained}, uint64_t{view.can_take}, uint64_t{view.claimed},
          uint64_t{view.segments}, uint64_t{view.layers}, uint64_t{view.under_way},
          view.unacknowledged, view.published,
          static_cast<uint64_t>(view.deadline.value_or(Duration(-1)).count())}) {
      hash = (hash ^ part) * 0x9e3779b97f4a7c15;
      hash ^= hash >> 29;
    }
    return hash;
  }

  Maker maker_;
  MessageTable& messages_;
  std::deque<Machine> machines_;
  std::unordered_multimap<size_t, uint32_t> numbers_;
  std::unordered_map<uint64_t, Step> steps_;
  bool too_early_ = false;
};

}  // namespace baton::protocol
