#include "transfer/protocol/receiver_handoff.h"

#include <gmock/gmock.h>

#include "tests/transfer/protocol/fixtures.h"

namespace baton::protocol {
namespace {

using Arrival = ReceiverHandoff::Arrival;
using State = ReceiverHandoff::State;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A receiver and what it expects.
struct Receiver {
  explicit Receiver(Offer o = some_offer(32, 2), Flow flow = Flow::kPush,
                    ReceiverConfig config = {})
      : offer(std::move(o)),
        expectation(expectation_of(offer, flow)),
        machine(some_handoff(), config, kStart) {}

  template <typename F>
  Effects step(F&& f) {
    Effects effects;
    f(effects);
    return effects;
  }
  Effects begin() {
    return step([&](Effects& e) { machine.begin(now, expectation, e); });
  }
  Effects receive(const Message& message) {
    return step([&](Effects& e) { machine.on_message(now, message, e); });
  }
  Effects accept(Acceptance acceptance = {.window_bytes = 1 << 20}) {
    return step([&](Effects& e) { machine.accept(now, acceptance, e); });
  }
  Effects copy_done(uint32_t segment, bool verified = true) {
    return step([&](Effects& e) { machine.copy_done(now, segment, verified, e); });
  }
  Effects advance() {
    return step([&](Effects& e) { machine.advance(now, e); });
  }
  Arrival arrive(uint32_t segment) {
    return machine.on_segment(now, segment, machine.segments().bytes(segment));
  }
  Effects verify(uint32_t segment) {
    EXPECT_EQ(arrive(segment), Arrival::kCopy);
    return copy_done(segment);
  }
  Effects sent(uint64_t segments, bool all = false) {
    return receive(Sent{some_handoff(), segments, all});
  }
  void receiving(Acceptance acceptance = {.window_bytes = 1 << 20}) {
    begin();
    ASSERT_TRUE(receive(offer).offered);
    accept(std::move(acceptance));
    ASSERT_EQ(machine.state(), State::kReceiving);
  }
  void in_state(State state) {
    begin();
    if (state == State::kContacted) receive(Queued{some_handoff()});
    if (state >= State::kOffered) receive(offer);
    if (state >= State::kReceiving) accept();
    if (state == State::kEnded) {
      step([&](Effects& e) { machine.abort(now, {}, e); });
    }
    ASSERT_EQ(machine.state(), state);
  }

  TimePoint now = kStart;
  Offer offer;
  Expectation expectation;
  ReceiverHandoff machine;
};

TEST(ReceiverHandoff, PushEndsAsCommittedOnceAllIsVerified) {
  Receiver r;
  EXPECT_THAT(names(r.begin()), IsEmpty());
  EXPECT_THAT(names(r.receive(Queued{some_handoff()})), IsEmpty());
  EXPECT_EQ(r.machine.state(), State::kContacted);
  Effects e = r.receive(r.offer);
  EXPECT_TRUE(e.offered);
  EXPECT_THAT(names(e), IsEmpty());
  e = r.accept({.held_tokens = 0, .window_bytes = 4096});
  ASSERT_THAT(names(e), ElementsAre("ACCEPT"));
  EXPECT_EQ(*find<Accept>(e), some_accept(r.offer, 4096));

  r.sent(2);
  e = r.verify(2);
  ASSERT_THAT(names(e), ElementsAre("ACK"));
  EXPECT_EQ(*find<Ack>(e), ack_of({2}));
  EXPECT_FALSE(r.machine.layer_complete(0));
  EXPECT_EQ(*find<Ack>(r.verify(0)), ack_of({0, 2}));
  EXPECT_TRUE(r.machine.layer_complete(0));
  EXPECT_FALSE(r.machine.layer_complete(1));
  EXPECT_FALSE(r.machine.layer_complete(2)) << "there is no such layer";
  r.verify(1);
  r.sent(4, true);
  e = r.verify(3);
  EXPECT_THAT(names(e), ElementsAre("ACK", "COMMIT"));
  EXPECT_EQ(e.end, End::kCommitted);
  EXPECT_TRUE(e.why.ok());
  EXPECT_TRUE(e.quiet);
  EXPECT_EQ(r.machine.verified_segments(), 4u);
  EXPECT_EQ(r.machine.verified_bytes(), 4u * 64);
  EXPECT_TRUE(r.machine.layer_complete(1));
  EXPECT_EQ(r.machine.next_deadline(), std::nullopt);
}

TEST(ReceiverHandoff, AcksNameOnlyTheWordThatChanged) {
  Receiver r(some_offer(16 * 100, 2));
  r.receiving();
  r.verify(0);
  r.verify(130);
  const Effects e = r.verify(131);
  ASSERT_NE(find<Ack>(e), nullptr);
  EXPECT_EQ(find<Ack>(e)->first_word, 2u);
  EXPECT_THAT(find<Ack>(e)->words, ElementsAre(0b1100));
}

TEST(ReceiverHandoff, FetchAsksAndTakesALeadingRun) {
  Receiver r(some_offer(40, 2), Flow::kFetch);
  r.now += milliseconds(500);
  Effects e = r.begin();
  ASSERT_THAT(names(e), ElementsAre("FETCH"));
  EXPECT_EQ(*find<Fetch>(e), (Fetch{some_handoff(), 40, 0, r.offer.keys, 29'500}));
  e = r.receive(some_offer(16, 2));
  EXPECT_TRUE(e.offered);
  EXPECT_EQ(r.machine.segments().segments(), 2u);
  r.accept({.held_tokens = 5, .held_chunks = {false}, .window_bytes = 64});
  r.verify(0);
  e = r.verify(1);
  EXPECT_EQ(e.end, End::kCommitted);
}

TEST(ReceiverHandoff, AMissEndsAFetchAsRefused) {
  for (const bool queued : {false, true}) {
    Receiver r(some_offer(40, 2), Flow::kFetch);
    r.begin();
    if (queued) r.receive(Queued{some_handoff()});
    const Effects e = r.receive(Miss{some_handoff()});
    EXPECT_EQ(e.end, End::kRefused);
    EXPECT_EQ(e.why.code(), Code::kNotFound);
    EXPECT_TRUE(e.quiet);
    EXPECT_THAT(names(e), IsEmpty());
  }
}

TEST(ReceiverHandoff, TheOfferMayComeBeforeTheEngine) {
  Receiver r;
  EXPECT_FALSE(r.machine.claimed());
  Effects e = r.receive(r.offer);
  EXPECT_FALSE(e.offered);
  EXPECT_FALSE(r.machine.claimed());
  EXPECT_EQ(r.machine.next_deadline(), kStart + ReceiverConfig{}.record_ttl);
  r.now += seconds(20);
  e = r.begin();
  EXPECT_TRUE(e.offered);
  EXPECT_EQ(r.machine.next_deadline(), r.now + ReceiverConfig{}.accept_deadline);
}

TEST(ReceiverHandoff, AnOfferThatDiffersIsRefusedWhicheverSideComesFirst) {
  for (const bool engine_first : {true, false}) {
    Receiver r;
    Offer other = r.offer;
    other.keys[1] = some_key(7);
    Effects e = engine_first ? r.begin() : r.receive(other);
    EXPECT_FALSE(e.end.has_value());
    e = engine_first ? r.receive(other) : r.begin();
    EXPECT_EQ(e.end, End::kRefused);
    EXPECT_FALSE(e.offered);
    ASSERT_THAT(names(e), ElementsAre("REFUSE"));
    EXPECT_EQ(find<Refuse>(e)->reason, RefuseReason::kKeys);
    EXPECT_THAT(find<Refuse>(e)->text,
                AllOf(HasSubstr("chunk 1"), HasSubstr("a1a1a1"), HasSubstr("a7a7a7")));
    EXPECT_EQ(e.why.code(), Code::kRefused);
    EXPECT_THAT(e.why.message(), HasSubstr("a7a7a7"));
  }
}

TEST(ReceiverHandoff, HeldChunksArePresentWithoutArriving) {
  Receiver r(some_offer(64, 2));
  r.begin();
  r.receive(r.offer);
  EXPECT_FALSE(r.machine.present(0));
  EXPECT_FALSE(r.machine.layer_complete(0));
  const Effects e = r.accept(
      {.held_tokens = 17, .held_chunks = {false, false, true, false}, .window_bytes = 1 << 20});
  EXPECT_EQ(find<Accept>(e)->held_tokens, 17u);
  EXPECT_THAT(find<Accept>(e)->held_chunks, ElementsAre(false, false, true, false));
  EXPECT_TRUE(r.machine.present(0));
  EXPECT_FALSE(r.machine.verified(0));
  EXPECT_FALSE(r.machine.present(2)) << "held in part: it comes whole";
  EXPECT_TRUE(r.machine.present(4));
  EXPECT_EQ(r.arrive(4), Arrival::kUnwanted);
  r.verify(2);
  r.verify(6);
  EXPECT_TRUE(r.machine.layer_complete(0));
  r.sent(4, true);
  r.verify(3);
  EXPECT_EQ(r.verify(7).end, End::kCommitted);
}

TEST(ReceiverHandoff, EverythingHeldCommitsAtOnce) {
  Receiver r;
  r.begin();
  r.receive(r.offer);
  const Effects e = r.accept({.held_tokens = 1000});
  EXPECT_THAT(names(e), ElementsAre("ACCEPT", "COMMIT"));
  EXPECT_EQ(find<Accept>(e)->held_tokens, 32u) << "no more than the offer covers";
  EXPECT_EQ(e.end, End::kCommitted);
  EXPECT_TRUE(e.quiet);
  EXPECT_TRUE(r.machine.layer_complete(1));
}

TEST(ReceiverHandoff, AWindowSmallerThanASegmentIsRefused) {
  Receiver r;
  r.begin();
  r.receive(r.offer);
  const Effects e = r.accept({.window_bytes = 63});
  EXPECT_EQ(e.end, End::kRefused);
  EXPECT_EQ(find<Refuse>(e)->reason, RefuseReason::kNoRoom);
  EXPECT_THAT(find<Refuse>(e)->text, AllOf(HasSubstr("63"), HasSubstr("64")));
}

TEST(ReceiverHandoff, LateDoubledAndForeignSegmentsAreDropped) {
  Receiver r(some_offer(40, 2));
  EXPECT_EQ(r.machine.on_segment(kStart, 0, 64), Arrival::kUnwanted);
  r.receiving();
  EXPECT_EQ(r.machine.on_segment(kStart, 6, 64), Arrival::kUnwanted) << "no such segment";
  EXPECT_EQ(r.machine.on_segment(kStart, 0, 63), Arrival::kUnwanted) << "wrong size";
  EXPECT_EQ(r.machine.on_segment(kStart, 4, 64), Arrival::kUnwanted) << "the tail is shorter";
  EXPECT_EQ(r.machine.on_segment(kStart, 4, 32), Arrival::kCopy);
  EXPECT_EQ(r.machine.on_segment(kStart, 4, 32), Arrival::kDuplicate) << "being copied";
  EXPECT_EQ(r.machine.copies_under_way(), 1u);
  r.copy_done(4);
  EXPECT_EQ(r.machine.on_segment(kStart, 4, 32), Arrival::kDuplicate) << "verified";
  r.receive(Cancel{some_handoff(), ""});
  EXPECT_EQ(r.machine.on_segment(kStart, 0, 64), Arrival::kUnwanted) << "ended";
}

TEST(ReceiverHandoff, ABadCopyIsAskedForAtOnceAndNotForEver) {
  Receiver r(some_offer(32, 2), Flow::kPush, {.max_bad_copies = 3});
  r.receiving();
  for (int i = 1; i <= 3; ++i) {
    ASSERT_EQ(r.arrive(1), Arrival::kCopy);
    const Effects e = r.copy_done(1, false);
    EXPECT_FALSE(r.machine.verified(1));
    if (i < 3) {
      ASSERT_THAT(names(e), ElementsAre("RESEND"));
      EXPECT_THAT(find<Resend>(e)->segments, ElementsAre(1));
      EXPECT_FALSE(e.end.has_value());
    } else {
      ASSERT_THAT(names(e), ElementsAre("FAILED"));
      EXPECT_EQ(find<Failed>(e)->code, Code::kChecksum);
      EXPECT_EQ(e.end, End::kFailed);
      EXPECT_EQ(e.why.code(), Code::kChecksum);
    }
  }
}

TEST(ReceiverHandoff, ABadCopyThatIsReplacedDoesNoHarm) {
  Receiver r;
  r.receiving();
  for (const uint32_t segment : {0u, 1u, 2u, 3u}) {
    ASSERT_EQ(r.arrive(segment), Arrival::kCopy);
    r.copy_done(segment, false);
  }
  for (const uint32_t segment : {3u, 2u, 1u}) r.verify(segment);
  EXPECT_EQ(r.verify(0).end, End::kCommitted);
}

TEST(ReceiverHandoff, AsksForWhatSentNamesAndDidNotCome) {
  Receiver r(some_offer(64, 1));
  r.receiving();
  EXPECT_EQ(r.machine.next_deadline(), kStart + kBudget) << "waiting for compute has no other";
  r.sent(2);
  EXPECT_EQ(r.machine.next_deadline(), kStart + milliseconds(200));
  r.verify(0);
  r.verify(1);
  EXPECT_EQ(r.machine.next_deadline(), kStart + kBudget) << "all that was published is here";
  r.sent(4, true);
  r.now += milliseconds(150);
  r.verify(3);
  EXPECT_EQ(r.machine.next_deadline(), r.now + milliseconds(200)) << "from the last arrival";
  r.now += milliseconds(200) - nanoseconds(1);
  EXPECT_THAT(names(r.advance()), IsEmpty());
  r.now += nanoseconds(1);
  Effects e = r.advance();
  ASSERT_THAT(names(e), ElementsAre("RESEND"));
  EXPECT_THAT(find<Resend>(e)->segments, ElementsAre(2));
  EXPECT_FALSE(e.end.has_value());
  // The next waits twice as long.
  EXPECT_EQ(r.machine.next_deadline(), r.now + milliseconds(400));
  r.now += milliseconds(400);
  EXPECT_THAT(names(r.advance()), ElementsAre("RESEND"));
  EXPECT_EQ(r.machine.next_deadline(), r.now + milliseconds(800));
  EXPECT_EQ(r.verify(2).end, End::kCommitted);
}

TEST(ReceiverHandoff, WaitsLessAgainOnceSomethingVerified) {
  Receiver r(some_offer(64, 1));
  r.receiving();
  r.sent(4, true);
  r.now += milliseconds(200);
  ASSERT_THAT(names(r.advance()), ElementsAre("RESEND"));
  r.now += milliseconds(400);
  ASSERT_THAT(names(r.advance()), ElementsAre("RESEND"));
  r.verify(0);
  EXPECT_EQ(r.machine.next_deadline(), r.now + milliseconds(200));
}

TEST(ReceiverHandoff, ALateOrDoubledSentChangesNothing) {
  Receiver r(some_offer(64, 1));
  r.receiving();
  r.sent(3);
  const ReceiverHandoff before = r.machine;
  r.now += milliseconds(100);
  r.sent(3);
  r.sent(1);
  EXPECT_EQ(r.machine, before);
}

TEST(ReceiverHandoff, BeforeSentNamesAllItAsksForWhateverIsOnItsWay) {
  Receiver r(some_offer(64, 1));
  r.receiving();
  r.sent(2);
  r.verify(1);
  r.now += milliseconds(200);
  const Effects e = r.advance();
  ASSERT_THAT(names(e), ElementsAre("RESEND"));
  EXPECT_THAT(find<Resend>(e)->segments, IsEmpty());
}

TEST(ReceiverHandoff, NothingIsMissingWhileACopyIsUnderWay) {
  Receiver r(some_offer(64, 1));
  r.receiving();
  r.sent(4, true);
  ASSERT_EQ(r.arrive(0), Arrival::kCopy);
  EXPECT_EQ(r.machine.next_deadline(), kStart + ReceiverConfig{}.progress_deadline);
  r.now += seconds(1);
  EXPECT_THAT(names(r.advance()), IsEmpty());
  r.copy_done(0);
  EXPECT_EQ(r.machine.next_deadline(), r.now + milliseconds(200));
}

TEST(ReceiverHandoff, OneResendNamesNoMoreThanItsBound) {
  Receiver r(some_offer(16 * 1024, 70));
  r.receiving();
  r.sent(70 * 1024, true);
  r.now += milliseconds(200);
  EXPECT_EQ(find<Resend>(r.advance())->segments.size(), kMaxResend);
}

// Each deadline: nothing a nanosecond before it, the end at it.
void expect_end_at(Receiver& r, TimePoint deadline, End end, const char* message) {
  ASSERT_EQ(r.machine.next_deadline(), deadline);
  r.now = deadline - nanoseconds(1);
  Effects e = r.advance();
  EXPECT_FALSE(e.end.has_value());
  EXPECT_THAT(names(e), IsEmpty());
  EXPECT_EQ(r.machine.next_deadline(), deadline);
  r.now = deadline;
  e = r.advance();
  EXPECT_EQ(e.end, end);
  EXPECT_FALSE(e.why.ok());
  EXPECT_THAT(names(e), ElementsAre(message));
  EXPECT_TRUE(e.quiet);
  EXPECT_FALSE(r.advance().end.has_value());
}

TEST(ReceiverHandoff, AnUnclaimedRecordLivesItsTime) {
  for (const bool offered : {false, true}) {
    Receiver r;
    r.now += seconds(1);
    r.receive(Queued{some_handoff()});
    if (offered) r.receive(r.offer);
    expect_end_at(r, kStart + seconds(30), End::kExpired, "REFUSE");
  }
}

TEST(ReceiverHandoff, FirstContactDeadlineRunsFromBegin) {
  for (const Flow flow : {Flow::kPush, Flow::kFetch}) {
    Receiver r(some_offer(32, 2), flow);
    r.now += milliseconds(10);
    r.begin();
    expect_end_at(r, kStart + milliseconds(2010), End::kExpired, "CANCEL");
  }
}

TEST(ReceiverHandoff, WhoWasNotHeardOfIsNamed) {
  for (const std::string& from : {std::string("10.0.0.7:9001"), std::string(2 * kMaxText, 'x')}) {
    Receiver r;
    r.expectation.from = from;
    r.begin();
    r.now += seconds(2);
    const Effects e = r.step([&](Effects& effects) { r.machine.advance(r.now, effects); });
    EXPECT_THAT(e.why.message(), AllOf(HasSubstr(from), HasSubstr("within 2000 ms")));
    ASSERT_NE(find<Cancel>(e), nullptr);
    EXPECT_EQ(find<Cancel>(e)->text, bounded_text(e.why.message()));
  }
}

TEST(ReceiverHandoff, AcceptDeadlineRefusesForTheEngine) {
  Receiver r;
  r.begin();
  r.now += seconds(1);
  r.receive(r.offer);
  expect_end_at(r, kStart + seconds(6), End::kRefused, "REFUSE");
}

TEST(ReceiverHandoff, TheBudgetEndsEveryState) {
  Receiver contacted;
  contacted.in_state(State::kContacted);
  expect_end_at(contacted, kStart + kBudget, End::kExpired, "CANCEL");
  Receiver receiving;
  receiving.in_state(State::kReceiving);
  expect_end_at(receiving, kStart + kBudget, End::kExpired, "CANCEL");
  Receiver expecting;
  expecting.expectation.deadline = kStart + milliseconds(100);
  expecting.begin();
  expect_end_at(expecting, kStart + milliseconds(100), End::kExpired, "CANCEL");
  Receiver offered;
  offered.expectation.deadline = kStart + milliseconds(100);
  offered.in_state(State::kOffered);
  expect_end_at(offered, kStart + milliseconds(100), End::kExpired, "CANCEL");
}

TEST(ReceiverHandoff, ProgressDeadlineRunsFromTheLastVerifiedSegment) {
  Receiver r(some_offer(64, 1), Flow::kPush, {.resend_after = seconds(60)});
  r.receiving();
  r.now += seconds(5);
  r.sent(1);
  EXPECT_EQ(r.machine.next_deadline(), r.now + seconds(2));
  r.now += seconds(1);
  r.sent(3);
  EXPECT_EQ(r.machine.next_deadline(), r.now + seconds(1)) << "SENT is no progress";
  ASSERT_EQ(r.arrive(0), Arrival::kCopy);
  r.copy_done(0, false);
  EXPECT_EQ(r.machine.next_deadline(), r.now + seconds(1)) << "nor is a bad copy";
  r.verify(0);
  EXPECT_EQ(r.machine.next_deadline(), r.now + seconds(2));
  expect_end_at(r, r.now + seconds(2), End::kExpired, "CANCEL");
}

TEST(ReceiverHandoff, ASegmentMayArriveBeforeTheSentThatCountsIt) {
  Receiver r(some_offer(32, 1));
  r.receiving();
  r.verify(0);
  EXPECT_EQ(r.machine.next_deadline(), kStart + kBudget);
  r.now += seconds(3);
  r.sent(1);
  EXPECT_EQ(r.machine.next_deadline(), kStart + kBudget);
  r.sent(2, true);
  EXPECT_EQ(r.machine.next_deadline(), r.now + milliseconds(200));
}

TEST(ReceiverHandoff, IsQuietOnceTheLastCopyIsOver) {
  Receiver r;
  r.receiving();
  r.arrive(0);
  r.arrive(1);
  Effects e = r.receive(Cancel{some_handoff(), "stop"});
  EXPECT_EQ(e.end, End::kCancelled);
  EXPECT_FALSE(e.quiet);
  EXPECT_THAT(names(e), IsEmpty());
  e = r.copy_done(0);
  EXPECT_FALSE(e.quiet);
  EXPECT_THAT(names(e), IsEmpty()) << "no ACK after the end";
  EXPECT_EQ(r.machine.verified_segments(), 0u);
  e = r.copy_done(1, false);
  EXPECT_TRUE(e.quiet);
  EXPECT_THAT(names(e), ElementsAre("DRAINED"));
  EXPECT_THAT(names(r.receive(Cancel{some_handoff(), "again"})), ElementsAre("DRAINED"));
}

TEST(ReceiverHandoff, PeerLostDuringCopiesOwesNoDrained) {
  Receiver r;
  r.receiving();
  r.arrive(0);
  r.receive(Failed{some_handoff(), Code::kInternal, "x"});
  Effects e = r.step([&](Effects& effects) { r.machine.peer_lost(r.now, {}, effects); });
  EXPECT_FALSE(e.end.has_value());
  e = r.copy_done(0);
  EXPECT_TRUE(e.quiet);
  EXPECT_THAT(names(e), IsEmpty());

  Receiver t;
  t.receiving();
  e = t.step([&](Effects& effects) {
    t.machine.peer_lost(t.now, Status(Code::kUnavailable, "gone"), effects);
  });
  EXPECT_EQ(e.end, End::kFailed);
  EXPECT_EQ(e.why.message(), "gone");
}

TEST(ReceiverHandoff, TheLocalSideMayEndEveryState) {
  for (int state = 0; state < static_cast<int>(State::kEnded); ++state) {
    Receiver aborted;
    aborted.in_state(static_cast<State>(state));
    Effects e = aborted.step([&](Effects& effects) {
      aborted.machine.abort(aborted.now, Status(Code::kCancelled, "client gone"), effects);
    });
    EXPECT_EQ(e.end, End::kCancelled);
    ASSERT_THAT(names(e), ElementsAre("CANCEL"));
    EXPECT_EQ(find<Cancel>(e)->text, "client gone");
    EXPECT_FALSE(aborted.machine.peer_drained());
    aborted.receive(Drained{some_handoff()});
    EXPECT_TRUE(aborted.machine.peer_drained());

    Receiver failed;
    failed.in_state(static_cast<State>(state));
    e = failed.step([&](Effects& effects) {
      failed.machine.fail(failed.now, Status(Code::kUnavailable, "said so"), effects);
    });
    EXPECT_EQ(e.end, End::kFailed);
    EXPECT_EQ(e.why.message(), "said so");
    EXPECT_THAT(names(e), ElementsAre("FAILED"));
  }
}

TEST(ReceiverHandoff, RefusesForTheSession) {
  Receiver r;
  r.in_state(State::kOffered);
  const Effects e = r.step([&](Effects& effects) {
    r.machine.refuse(r.now, RefuseReason::kNoRoom, "12 blocks, 3 are free", effects);
  });
  EXPECT_EQ(e.end, End::kRefused);
  EXPECT_THAT(names(e), ElementsAre("REFUSE"));
  EXPECT_EQ(find<Refuse>(e)->text, "12 blocks, 3 are free");
}

TEST(ReceiverHandoff, ASecondOfferMustBeTheSame) {
  for (const State state : {State::kOffered, State::kReceiving}) {
    Receiver r;
    r.in_state(state);
    const ReceiverHandoff before = r.machine;
    const Effects same = r.receive(r.offer);
    EXPECT_FALSE(same.offered);
    EXPECT_EQ(r.machine, before);
    Offer other = r.offer;
    other.retained = !other.retained;
    EXPECT_EQ(r.receive(other).end, End::kFailed);
  }
}

TEST(ReceiverHandoff, AnInconsistentOfferOrSentIsAProtocolError) {
  Receiver r;
  r.begin();
  Offer other = r.offer;
  other.keys.pop_back();
  Effects e = r.receive(other);
  EXPECT_EQ(e.end, End::kFailed);
  EXPECT_EQ(e.why.code(), Code::kProtocol);
  for (const Sent& sent : {Sent{some_handoff(), 5, false}, Sent{some_handoff(), 3, true},
                           Sent{some_handoff(), 4, false}}) {
    Receiver t;
    t.receiving();
    e = t.receive(sent);
    EXPECT_EQ(e.end, End::kFailed) << sent.segments << sent.all;
    EXPECT_EQ(e.why.code(), Code::kProtocol);
  }
}

// What every message does in every state: the end it brings, or none.
TEST(ReceiverHandoff, EveryMessageInEveryState) {
  constexpr auto kIgnored = std::optional<End>();
  constexpr auto kFails = std::optional(End::kFailed);
  constexpr auto kRefused = std::optional(End::kRefused);
  constexpr auto kCancelled = std::optional(End::kCancelled);
  struct Row {
    const char* message;
    std::optional<End> in_expecting, in_contacted, in_offered, in_receiving;
  };
  const Row rows[] = {
      {"QUEUED", kIgnored, kIgnored, kIgnored, kIgnored},
      {"OFFER", kIgnored, kIgnored, kIgnored, kIgnored},
      {"ACCEPT", kFails, kFails, kFails, kFails},
      {"REFUSE", kRefused, kRefused, kRefused, kRefused},
      {"SENT", kFails, kFails, kFails, kIgnored},
      {"ACK", kFails, kFails, kFails, kFails},
      {"RESEND", kFails, kFails, kFails, kFails},
      {"COMMIT", kFails, kFails, kFails, kFails},
      {"FAILED", kFails, kFails, kFails, kFails},
      {"CANCEL", kCancelled, kCancelled, kCancelled, kCancelled},
      {"DRAINED", kFails, kFails, kFails, kFails},
      {"FETCH", kFails, kFails, kFails, kFails},
      {"MISS", kFails, kFails, kFails, kFails},  // only a fetch can miss
  };
  const std::vector<Message> messages = one_of_each(some_offer(32, 2));
  ASSERT_EQ(messages.size(), std::size(rows));
  for (size_t i = 0; i < messages.size(); ++i) {
    ASSERT_STREQ(message_name(messages[i]), rows[i].message);
    const std::optional<End> expected[] = {rows[i].in_expecting, rows[i].in_contacted,
                                           rows[i].in_offered, rows[i].in_receiving, kIgnored};
    for (int state = 0; state <= static_cast<int>(State::kEnded); ++state) {
      Receiver r;
      r.in_state(static_cast<State>(state));
      const bool ended = r.machine.state() == State::kEnded;
      const Effects e = r.receive(messages[i]);
      EXPECT_EQ(e.end, expected[state]) << rows[i].message << " in state " << state;
      EXPECT_EQ(e.quiet, expected[state].has_value()) << rows[i].message << " in state " << state;
      EXPECT_EQ(r.machine.state() == State::kEnded, ended || expected[state].has_value());
      const bool offers = rows[i].message == std::string("OFFER") && state <= 1;
      EXPECT_EQ(e.offered, offers) << rows[i].message << " in state " << state;
      if (r.machine.state() == State::kEnded) {
        const Effects again = r.receive(messages[i]);
        EXPECT_FALSE(again.end.has_value());
        EXPECT_FALSE(again.quiet);
      }
    }
  }
}

TEST(ReceiverHandoff, TheLocalSideDoesNothingAfterTheEnd) {
  Receiver r;
  r.in_state(State::kEnded);
  const ReceiverHandoff ended = r.machine;
  Effects e;
  r.machine.begin(r.now, r.expectation, e);
  r.machine.accept(r.now, {}, e);
  r.machine.refuse(r.now, RefuseReason::kNoRoom, "", e);
  r.machine.abort(r.now, {}, e);
  r.machine.fail(r.now, {}, e);
  r.machine.peer_lost(r.now, {}, e);
  r.now += kBudget;
  r.machine.advance(r.now, e);
  EXPECT_THAT(names(e), IsEmpty());
  EXPECT_FALSE(e.end.has_value() || e.quiet || e.offered);
  EXPECT_EQ(r.machine, ended);
}

}  // namespace
}  // namespace baton::protocol
