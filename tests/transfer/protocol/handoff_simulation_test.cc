#include "tests/transfer/protocol/simulated_handoff.h"

namespace baton::protocol {
namespace {

struct Totals {
  std::map<End, int> sender, receiver;
  int agreed = 0;
  uint64_t resends = 0;
};

Totals simulate(int rounds, uint64_t first_seed, const Hazards& hazards) {
  Totals totals;
  for (int i = 0; i < rounds; ++i) {
    SimulatedHandoff handoff(first_seed + i, hazards);
    handoff.run();
    if (!handoff.broken().empty()) {
      ADD_FAILURE() << "seed " << first_seed + i << ": " << handoff.broken() << " ("
                    << handoff.summary() << ")";
      break;
    }
    if (handoff.sender_end()) ++totals.sender[*handoff.sender_end()];
    if (handoff.receiver_end()) ++totals.receiver[*handoff.receiver_end()];
    totals.agreed += handoff.sender_end() == handoff.receiver_end();
    totals.resends += handoff.resends();
  }
  return totals;
}

TEST(HandoffSimulation, WithoutHazardsEveryHandoffCommitsOnBothSides) {
  const Totals totals = simulate(1000, 1, {});
  EXPECT_EQ(totals.sender.at(End::kCommitted), 1000);
  EXPECT_EQ(totals.receiver.at(End::kCommitted), 1000);
}

TEST(HandoffSimulation, ALossyChannelIsRecoveredFrom) {
  const Totals totals =
      simulate(2000, 10'000, {.lose = 0.05, .dup = 0.05, .spoil = 0.05, .give_back = 0.1});
  EXPECT_GE(totals.receiver.at(End::kCommitted), 1980);
  EXPECT_EQ(totals.agreed, 2000);
  EXPECT_GT(totals.resends, 1000u);
}

TEST(HandoffSimulation, AHopelessChannelEndsEveryHandoff) {
  const Totals totals = simulate(1000, 20'000, {.lose = 0.5, .dup = 0.2, .spoil = 0.4});
  EXPECT_GT(totals.receiver.at(End::kExpired), 50);
  EXPECT_GT(totals.receiver.at(End::kCommitted), 100);
}

TEST(HandoffSimulation, EverythingAtOnceKeepsEveryInvariant) {
  const Hazards hazards{.lose = 0.05,
                        .dup = 0.1,
                        .spoil = 0.1,
                        .give_back = 0.2,
                        .cut = 0.3,
                        .stop = 0.2,
                        .refuse = 0.1,
                        .never_accept = 0.05,
                        .never_claim = 0.1,
                        .never_offer = 0.1,
                        .slow_compute = 0.1};
  const Totals totals = simulate(5000, 30'000, hazards);
  for (const End end :
       {End::kCommitted, End::kRefused, End::kCancelled, End::kExpired, End::kFailed}) {
    EXPECT_GT(totals.receiver.at(end), 50) << end_name(end);
    EXPECT_GT(totals.sender.at(end), 50) << end_name(end);
  }
}

}  // namespace
}  // namespace baton::protocol
