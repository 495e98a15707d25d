// A sender and a receiver of one handoff in one process, in virtual time: an ordered control stream
// that may break, a channel that loses, doubles, reorders and spoils segments, an engine on each
// side. What happens is drawn from a seed. After every step the invariants of the protocol are
// checked against a record that the simulation keeps by itself.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>

#include "tests/transfer/protocol/fixtures.h"

namespace baton::protocol {

struct Hazards {
  double lose = 0, dup = 0, spoil = 0;  // of each segment on the channel
  double give_back = 0;                 // of each take
  double cut = 0;                       // the control stream breaks somewhere
  double stop = 0;                      // each engine gives up somewhere
  double refuse = 0, never_accept = 0, never_claim = 0, never_offer = 0, slow_compute = 0;
  bool operator==(const Hazards&) const = default;
};

class SimulatedHandoff {
 public:
  SimulatedHandoff(uint64_t seed, Hazards hazards);
  // Runs until nothing is left to happen.
  void run();

  std::optional<End> sender_end() const { return sender_side_.end; }
  std::optional<End> receiver_end() const { return receiver_side_.end; }
  // What was broken, empty if nothing; and what was drawn.
  const std::string& broken() const { return broken_; }
  std::string summary() const;
  uint32_t resends() const { return resends_; }

 private:
  struct Side {
    const char* name;
    std::optional<End> end;
    bool quiet = false;
    bool lost = false;                       // told that the peer is gone
    bool said_stop = false;                  // sent CANCEL or FAILED
    std::optional<TimePoint> last_delivery;  // of what was sent to this side: streams are ordered
  };
  struct Event {
    TimePoint at;
    uint64_t number;  // equal times: in the order they were made
    std::function<void()> action;
    bool operator<(const Event& other) const {
      return std::tie(other.at, other.number) < std::tie(at, number);
    }
  };

  bool chance(double probability) {
    return std::uniform_real_distribution<>(0, 1)(random_) < probability;
  }
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }
  Duration within(Duration longest) { return Duration(random_() % (longest.count() + 1)); }
  void later(Duration after, std::function<void()> action);
  void require(bool holds, const std::string& what);

  void draw_offer();
  void start_push();
  void start_fetch();
  void start_accidents();
  void make_sender();
  ReceiverHandoff& receiver();
  void begin();
  void prefill();
  void answer_fetch();
  void decide();
  void pump();
  void publish(uint32_t segment);
  void put_on_channel(uint32_t segment);
  void arrive(uint32_t segment, bool spoilt);

  void deliver_to_sender(const Message& message);
  void deliver_to_receiver(const Message& message);
  void sender_step(const std::function<void(Effects&)>& step);
  void receiver_step(const std::function<void(Effects&)>& step);
  void apply(Side& from, Side& to, const Effects& effects);
  void check_sender();
  void check_receiver();
  void check_the_end();
  bool advance_machines();

  std::mt19937_64 random_;
  const Hazards hazards_;
  TimePoint now_ = kStart;
  uint64_t events_made_ = 0;
  std::priority_queue<Event> events_;
  std::string broken_;

  Flow flow_ = Flow::kPush;
  Offer whole_;    // as the receiver expects
  Offer offered_;  // a leading run of it in a fetch
  SegmentMap map_;
  SenderConfig sender_config_;
  ReceiverConfig receiver_config_;
  TimePoint deadline_;
  bool cut_ = false;
  bool tombstone_ = false;  // the sender's node was told to stop before there was a sender

  std::optional<SenderHandoff> sender_;
  std::optional<ReceiverHandoff> receiver_;
  Side sender_side_{"sender"};
  Side receiver_side_{"receiver"};

  // The simulation's own record.
  std::map<uint32_t, bool> window_;  // segment: published since it was taken
  std::set<uint32_t> under_way_;     // publishes that read their source
  std::set<uint32_t> copying_;
  std::set<uint32_t> verified_;
  std::vector<bool> held_;
  uint32_t resends_ = 0;
};

}  // namespace baton::protocol
