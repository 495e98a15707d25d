// Every order of events of small handoffs, over the machines that the product runs.
#include <gmock/gmock.h>

#include "tests/transfer/protocol/explore.h"
#include "tests/transfer/protocol/explore_mutants.h"

namespace baton::protocol {
namespace {

using testing::HasSubstr;
using Publish = Scenario::Publish;

// As often as here, or as under sanitizers.
constexpr uint8_t often(uint8_t release, uint8_t sanitized) {
#ifdef BATON_SANITIZED
  return sanitized;
#else
  (void)sanitized;
  return release;
#endif
}

struct Row {
  Scenario scenario;
  // (sender's end, receiver's end) that must be reached; the rest may.
  std::vector<std::pair<End, End>> reached = {{End::kCommitted, End::kCommitted}};
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.scenario.name; }

const std::pair<End, End> kBothCommit{End::kCommitted, End::kCommitted};
// The one difference that is allowed.
const std::pair<End, End> kSenderDoesNotKnow{End::kFailed, End::kCommitted};

std::vector<Row> rows() {
  std::vector<Row> rows;
  rows.push_back({{.name = "NothingGoesWrong",
                   .window_segments = 4,
                   .computed_at_once = false,
                   .publish = Publish::kEither,
                   .give_back = 1}});
  rows.push_back({{.name = "ABadChannel", .lose = 2, .repeat = 1, .spoil = often(2, 1)}});
  rows.push_back(
      {{.name = "ABadChannelAndLateTimers",
        .lose = 1,
        .repeat = often(1, 0),
        .spoil = 1,
        .early = 1},
       {kBothCommit, {End::kExpired, End::kCancelled}, {End::kCancelled, End::kExpired}}});
  rows.push_back(
      {{.name = "ReadInPlace", .publish = Publish::kInPlace, .lose = 1, .early = often(1, 0)}});
  rows.push_back({{.name = "LimitsOfRepeating",
                   .max_publishes = 2,
                   .max_bad_copies = 2,
                   .lose = often(2, 1),
                   .spoil = 2,
                   .early = often(1, 0),
                   .must_commit = false},
                  {kBothCommit, {End::kFailed, End::kFailed}}});
  rows.push_back({{.name = "EnginesStop",
                   .publish = Publish::kEither,
                   .give_back = often(1, 0),
                   .stop = often(2, 1)},
                  {kBothCommit, {End::kCancelled, End::kCommitted}, {End::kFailed, End::kFailed}}});
  rows.push_back({{.name = "EnginesStopOnABadChannel",
                   .lose = 1,
                   .repeat = 1,
                   .spoil = often(1, 0),
                   .stop = 1}});
  rows.push_back({{.name = "TheConnectionBreaks", .lose = often(1, 0), .stop = 1, .cut = 1},
                  {kBothCommit, kSenderDoesNotKnow, {End::kFailed, End::kFailed}}});
  rows.push_back({{.name = "TheConnectionBreaksTwiceAndTimersFire", .cut = often(2, 1), .early = 1},
                  {kBothCommit, kSenderDoesNotKnow}});
  rows.push_back(
      {{.name = "SidesCrashAndRestart", .spoil = often(1, 0), .crash = 2, .early = often(1, 0)},
       {kBothCommit, {End::kRefused, End::kCommitted}, {End::kRefused, End::kFailed}}});
  rows.push_back(
      {{.name = "AWindowOfOneSegment", .window_segments = 1, .lose = 1, .stop = 1, .early = 1}});
  rows.push_back({{.name = "AWindowOfThreeSegments",
                   .window_segments = 3,
                   .lose = 1,
                   .spoil = often(1, 0),
                   .early = often(1, 0)}});
  rows.push_back(
      {{.name = "NoRoomForAWindow", .window_segments = 0, .early = 1, .must_commit = false},
       {{End::kRefused, End::kRefused}}});
  rows.push_back({{.name = "ATailChunk",
                   .tokens = 24,
                   .window_segments = 1,
                   .lose = 1,
                   .repeat = 1,
                   .spoil = 1,
                   .early = often(1, 0)}});
  rows.push_back({{.name = "AHeldChunk",
                   .held_chunks = {true, false},
                   .publish = Publish::kEither,
                   .lose = 1,
                   .spoil = 1,
                   .stop = 1,
                   .early = often(1, 0)}});
  rows.push_back({{.name = "TokensHeldInPart",
                   .held_tokens = 20,
                   .lose = 1,
                   .spoil = 1,
                   .stop = 1,
                   .cut = 1,
                   .early = often(1, 0)}});
  rows.push_back(
      {{.name = "AllIsHeld", .held_tokens = 32, .stop = 1, .cut = 1, .crash = 1, .early = 2},
       {kBothCommit, kSenderDoesNotKnow}});
  rows.push_back({{.name = "PromptsThatDiffer",
                   .other_keys = true,
                   .stop = 1,
                   .cut = 1,
                   .early = 2,
                   .must_commit = false},
                  {{End::kRefused, End::kRefused}}});
  rows.push_back(
      {{.name = "FetchAll", .flow = Flow::kFetch, .lose = 1, .stop = often(1, 0), .early = 1}});
  rows.push_back({{.name = "FetchALeadingRun",
                   .flow = Flow::kFetch,
                   .holder_has_chunks = 1,
                   .lose = 1,
                   .spoil = 1,
                   .stop = 1,
                   .cut = 1,
                   .early = often(1, 0)},
                  {kBothCommit, kSenderDoesNotKnow}});
  rows.push_back({{.name = "FetchAndCrash",
                   .flow = Flow::kFetch,
                   .holder_has_chunks = 1,
                   .spoil = 1,
                   .cut = often(1, 0),
                   .crash = 1,
                   .early = 1}});
  rows.push_back({{.name = "FetchWhatIsNotThere",
                   .flow = Flow::kFetch,
                   .holder_has_chunks = 0,
                   .stop = 1,
                   .cut = 1,
                   .crash = 1,
                   .early = 1,
                   .must_commit = false},
                  {}});
  return rows;
}

class Exhaustive : public testing::TestWithParam<Row> {};

TEST_P(Exhaustive, NoOrderOfEventsBreaksAnInvariant) {
  const Row& row = GetParam();
  const Exploration explored = explore(row.scenario, 6'000'000);
  std::printf("%s: %s\n", row.scenario.name.c_str(), explored.to_string().c_str());
  EXPECT_EQ(explored.broken, "");
  EXPECT_TRUE(explored.complete);
  for (const auto& [sender, receiver] : row.reached) {
    EXPECT_GT(explored.ends[static_cast<size_t>(sender)][static_cast<size_t>(receiver)], 0u)
        << "no way to " << end_name(sender) << ", " << end_name(receiver);
  }
}

INSTANTIATE_TEST_SUITE_P(Handoff, Exhaustive, testing::ValuesIn(rows()),
                         [](const auto& info) { return info.param.scenario.name; });

// --- that it can fail

// The text of what must be found.
template <typename Sender, typename Receiver>
void expect_found(const Scenario& scenario, const char* what) {
  const Exploration explored = explore<Sender, Receiver>(scenario);
  EXPECT_THAT(explored.broken, HasSubstr(what));
  EXPECT_FALSE(explored.path.empty());
}

TEST(ExhaustiveFinds, ThePathIsTheShortestAndNamesEveryEvent) {
  const Exploration explored =
      explore<SenderHandoff, AcknowledgesUnverified>({.lose = 1, .repeat = 1, .spoil = 1});
  EXPECT_EQ(explored.broken, "ACK of a segment that is not right");
  ASSERT_EQ(explored.path.size(), 11u) << explored.to_string();
  EXPECT_EQ(explored.path[8], "segment 0 is spoilt") << explored.to_string();
  EXPECT_EQ(explored.path[9], "segment 0 arrives spoilt");
  EXPECT_EQ(explored.path[10], "receiver's copy is done segment 0");
}

TEST(ExhaustiveFinds, AReceiverThatCommitsByCounter) {
  expect_found<SenderHandoff, CommitsByCounter>({.spoil = 1},
                                                "the receiver commits and a segment is not right");
}

TEST(ExhaustiveFinds, AReceiverThatReleasesEarly) {
  expect_found<SenderHandoff, ReceiverReleasesEarly>(
      {.stop = 1}, "the receiver is quiet and a copy is under way");
}

TEST(ExhaustiveFinds, AReceiverWithoutADeadline) {
  expect_found<SenderHandoff, WaitsForSegmentsForever>({}, "it is alive and has no deadline");
}

TEST(ExhaustiveFinds, AReceiverThatNeverAsksAgain) {
  expect_found<SenderHandoff, NeverAsksAgain>({.lose = 1}, "only a deadline can end it");
  expect_found<SenderHandoff, NeverAsksAgain>({.spoil = 1}, "only a deadline can end it");
}

TEST(ExhaustiveFinds, AReceiverThatEndsTwice) {
  expect_found<SenderHandoff, ReceiverEndsTwice>({.stop = 1, .cut = 1}, "the receiver ends twice");
}

TEST(ExhaustiveFinds, AReceiverThatIsDrainedTooEarly) {
  expect_found<SenderHandoff, ReceiverDrainedTooEarly>(
      {.stop = 1}, "the receiver says DRAINED and still writes");
}

TEST(ExhaustiveFinds, ASenderThatReleasesEarly) {
  expect_found<SenderReleasesEarly, ReceiverHandoff>({.publish = Publish::kInPlace, .lose = 1},
                                                     "the sender is quiet and a publish reads");
}

TEST(ExhaustiveFinds, ASenderThatPublishesTwiceAtOnce) {
  expect_found<PublishesTwiceAtOnce, ReceiverHandoff>(
      {.publish = Publish::kInPlace, .spoil = 1},
      "a segment is published while an earlier publish of it is under way");
}

TEST(ExhaustiveFinds, ASenderThatIgnoresTheWindow) {
  expect_found<IgnoresTheWindow, ReceiverHandoff>({}, "the window is exceeded");
}

TEST(ExhaustiveFinds, ASenderThatSendsWhatIsHeld) {
  expect_found<SendsWhatIsHeld, ReceiverHandoff>({.held_chunks = {true, false}},
                                                 "a held segment is taken");
}

TEST(ExhaustiveFinds, ASenderThatCommitsWhenAllIsSent) {
  expect_found<CommitsWhenAllIsSent, ReceiverHandoff>(
      {.window_segments = 4}, "the sender believes in a commit that is none");
}

TEST(ExhaustiveFinds, ASenderThatIsDrainedTooEarly) {
  expect_found<SenderDrainedTooEarly, ReceiverHandoff>({.stop = 1},
                                                       "the sender says DRAINED and still reads");
}

TEST(ExhaustiveFinds, ASenderThatNeverSendsAgain) {
  expect_found<NeverSendsAgain, ReceiverHandoff>({.lose = 1}, "the window is counted wrongly");
}

TEST(ExhaustiveFinds, ASenderThatSpeaksToTheDead) {
  expect_found<SpeaksToTheDead, ReceiverHandoff>({.cut = 1},
                                                 "the sender speaks to a peer that is gone");
}

TEST(ExhaustiveFinds, ASenderWithoutADeadline) {
  expect_found<WaitsForCommitForever, ReceiverHandoff>({}, "it is alive and has no deadline");
}

TEST(ExhaustiveFinds, ADeadlineThatFiresBeforeItsTime) {
  expect_found<FiresTooEarly, ReceiverHandoff>({.early = 1}, "a deadline fires before its time");
}

}  // namespace
}  // namespace baton::protocol
