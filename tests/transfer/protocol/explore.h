// Exhaustive exploration of one handoff: every order of events that two machines, the control
// stream between them, the channel and the engine on each side can have, for small sizes and with
// so many faults as the scenario allows. Breadth first with a set of the systems seen, so that
// a violation comes with a shortest path to it.
//
// The system is more than the machines: it has a record of its own of what is in the window, what
// is read, what is copied and whose bytes are right, and holds the machines' words against it. What
// a node says for a handoff that it does not know (any more) is here too, as node_routing.cc does
// it.
//
// What must hold is in check() and after it; each has its number in shared words: see
// transfer/DESIGN.md, "The invariants".
#pragma once

#include <array>
#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "tests/transfer/protocol/explore_machines.h"
#include "tests/transfer/protocol/explore_steps.h"
#include "tests/transfer/protocol/explore_system.h"

namespace baton::protocol {

struct Exploration {
  std::string broken;                 // empty: nothing
  std::vector<std::string> path;      // the shortest to it, one event a line
  size_t systems = 0;                 // different ones seen
  size_t senders = 0, receivers = 0;  // different values of the machines
  size_t ended = 0;                   // systems where nothing can happen any more
  // (sender's end, receiver's end), 0 for a side that is not there: how many of `ended`.
  std::array<std::array<size_t, 6>, 6> ends{};
  bool complete = true;  // false: stopped at the limit

  std::string to_string() const;
};

template <typename Sender = SenderHandoff, typename Receiver = ReceiverHandoff>
Exploration explore(const Scenario& scenario, size_t limit = 4'000'000);

// --- the rest is for explore()

struct Event {
  What what{};
  uint8_t argument = 0;
};

class Explorer {
 public:
  Explorer(const Scenario& scenario, MessageTable& messages, MachineSteps& sender,
           MachineSteps& receiver);
  Exploration run(size_t limit);

 private:
  struct Seen {
    System system;
    uint32_t parent = 0;
    Event event;
  };
  enum Kind { kProgress, kFault, kTimer };

  // The events that can happen in `current_`, each tried at once.
  void expand(uint32_t index);
  void expand_sender();
  void expand_receiver();
  void expand_channel();
  void expand_connection();
  void expand_timers();
  bool quiescent() const { return !progress_; }
  void attempt(Kind kind, What what, uint8_t argument = 0);

  // One event on `next_`.
  void happen(What what, uint8_t argument);
  void happen_to_sender(What what, uint8_t argument);
  void happen_to_receiver(What what, uint8_t argument);
  void happen_to_connection(What what);
  void fire(What what);
  void publish(uint8_t segment);
  void put_on_channel(uint8_t segment);
  void take_off_channel(uint8_t segment, bool right);
  const Step& sender_step(Input input, uint8_t argument = 0);
  const Step& receiver_step(Input input, uint8_t argument = 0);
  void say(bool from_sender, uint8_t message);
  void sender_hears();
  void receiver_hears();
  void note_before_sender_hears(const Message& message);
  void check_said_by_sender(const Message& message, bool ended);
  void check_said_by_receiver(const Message& message, bool ended);
  void check();
  void check_nothing_left();

  bool flag(uint16_t f) const { return (next_.flags & f) != 0; }
  void set(uint16_t f) { next_.flags |= f; }
  void clear(uint16_t f) { next_.flags = static_cast<uint16_t>(next_.flags & ~f); }
  void require(bool holds, const char* what) {
    if (!holds && broken_.empty()) broken_ = what;
  }
  std::string describe(const System& before, Event event) const;
  std::vector<std::string> path_to(uint32_t index) const;
  uint64_t bytes_of(uint8_t mask) const;
  bool insert(const System& system, uint32_t parent, Event event);

  const Scenario scenario_;
  MessageTable& messages_;
  MachineSteps& senders_;
  MachineSteps& receivers_;
  SegmentMap map_;
  uint8_t all_ = 0;   // segments of the offer
  uint8_t held_ = 0;  // by the receiver
  std::vector<uint64_t> segment_bytes_;

  std::vector<Seen> seen_;
  std::vector<uint32_t> table_;  // open addressing: index into seen_ + 1
  System current_, next_;
  uint32_t current_index_ = 0;
  bool progress_ = false;
  bool any_ = false;
  std::string broken_;
  Exploration result_;
};

template <typename Sender, typename Receiver>
Exploration explore(const Scenario& scenario, size_t limit) {
  MessageTable messages;
  StepsOf<SenderMaker<Sender>> sender(scenario, messages);
  StepsOf<ReceiverMaker<Receiver>> receiver(scenario, messages);
  return Explorer(scenario, messages, sender, receiver).run(limit);
}

}  // namespace baton::protocol
