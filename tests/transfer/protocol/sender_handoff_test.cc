#include "transfer/protocol/sender_handoff.h"

#include <gmock/gmock.h>

#include "tests/transfer/protocol/fixtures.h"

namespace baton::protocol {
namespace {

using State = SenderHandoff::State;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A sender and what it said last.
struct Sender {
  explicit Sender(Offer o = some_offer(32, 2), SenderConfig config = {})
      : offer(std::move(o)), machine(some_handoff(), config, kStart + kBudget) {}

  Effects offered() {
    return step([&](Effects& e) { machine.offer(now, offer, e); });
  }
  Effects receive(const Message& message) {
    return step([&](Effects& e) { machine.on_message(now, message, e); });
  }
  Effects advance() {
    return step([&](Effects& e) { machine.advance(now, e); });
  }
  Effects published(uint32_t segment) {
    return step([&](Effects& e) { machine.published(now, segment, e); });
  }
  Effects publish_done(uint32_t segment) {
    return step([&](Effects& e) { machine.publish_done(now, segment, e); });
  }
  Effects give_back(uint32_t segment) {
    return step([&](Effects& e) { machine.give_back(now, segment, e); });
  }
  template <typename F>
  Effects step(F&& f) {
    Effects effects;
    f(effects);
    return effects;
  }
  void sending(uint64_t window = 1 << 20, uint32_t held_tokens = 0) {
    offered();
    receive(some_accept(offer, window, held_tokens));
    ASSERT_EQ(machine.state(), State::kSending);
  }
  void all_ready() {
    for (uint32_t i = 0; i < machine.segments().segments(); ++i) machine.segment_ready(now, i);
  }
  // Takes and publishes all that the window lets.
  std::vector<uint32_t> publish_all() {
    std::vector<uint32_t> taken;
    while (const auto segment = machine.take()) {
      taken.push_back(*segment);
      published(*segment);
      publish_done(*segment);
    }
    return taken;
  }
  void in_state(State state) {
    if (state == State::kQueued) step([&](Effects& e) { machine.queued(now, e); });
    if (state >= State::kOffered) offered();
    if (state >= State::kSending) receive(some_accept(offer));
    if (state >= State::kSending) {
      all_ready();
      publish_all();
    }
    if (state == State::kEnded) {
      step([&](Effects& e) { machine.abort(now, End::kCancelled, {}, e); });
    }
    ASSERT_EQ(machine.state(), state);
  }

  TimePoint now = kStart;
  Offer offer;
  SenderHandoff machine;
};

TEST(SenderHandoff, PushEndsAsCommittedAndQuiet) {
  Sender s;
  Effects e = s.step([&](Effects& effects) { s.machine.queued(s.now, effects); });
  EXPECT_THAT(names(e), ElementsAre("QUEUED"));
  e = s.offered();
  ASSERT_THAT(names(e), ElementsAre("OFFER"));
  EXPECT_EQ(std::get<Offer>(e.messages[0]), s.offer);
  s.all_ready();
  EXPECT_EQ(s.machine.take(), std::nullopt) << "nothing is published before ACCEPT";
  EXPECT_FALSE(s.machine.accepted());
  s.receive(some_accept(s.offer));
  EXPECT_TRUE(s.machine.accepted());

  // Segments 0, 1 are chunk 0's layers, 2, 3 chunk 1's.
  std::vector<uint64_t> counts;
  std::vector<uint32_t> order;
  while (const auto segment = s.machine.take()) {
    order.push_back(*segment);
    const Effects sent = s.published(*segment);
    ASSERT_THAT(names(sent), ElementsAre("SENT"));
    counts.push_back(find<Sent>(sent)->segments);
    EXPECT_EQ(find<Sent>(sent)->all, order.size() == 4);
    EXPECT_FALSE(s.publish_done(*segment).quiet);
  }
  EXPECT_THAT(order, ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(counts, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 4u * 64);
  EXPECT_EQ(s.machine.published_bytes(), 4u * 64);

  s.receive(ack_of({0, 1}));
  EXPECT_TRUE(s.machine.acknowledged(1));
  EXPECT_FALSE(s.machine.acknowledged(2));
  s.receive(ack_of({0, 1, 2, 3}));
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 0u);
  e = s.receive(Commit{some_handoff()});
  EXPECT_EQ(e.end, End::kCommitted);
  EXPECT_TRUE(e.why.ok());
  EXPECT_TRUE(e.quiet);
  EXPECT_TRUE(s.machine.peer_drained());
  EXPECT_EQ(s.machine.next_deadline(), std::nullopt);
}

TEST(SenderHandoff, ResendsGoFirstAndWithinTheSameOrder) {
  Sender s(some_offer(64, 2));
  s.sending(1 << 20);
  for (const uint32_t segment : {0u, 2u, 4u}) s.machine.segment_ready(s.now, segment);
  EXPECT_THAT(s.publish_all(), ElementsAre(0, 2, 4));
  s.all_ready();
  s.receive(Resend{some_handoff(), {4, 2}});
  EXPECT_THAT(s.publish_all(), ElementsAre(2, 4, 6, 1, 3, 5, 7));
}

TEST(SenderHandoff, NeverExceedsTheWindowAndDoesNotPassOver) {
  // Group 0 has small segments, group 1 large ones.
  Sender s(some_offer(32, 0, {some_group(0, 1, 1), some_group(1, 1, 10)}));
  s.sending(16 + 160);
  s.all_ready();
  EXPECT_EQ(s.machine.next_segment(), 0u);
  EXPECT_EQ(s.machine.take(), 0u);
  EXPECT_EQ(s.machine.next_segment(), 2u);
  EXPECT_EQ(s.machine.take(), 2u);
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 176u);
  EXPECT_EQ(s.machine.next_segment(), std::nullopt);
  EXPECT_EQ(s.machine.take(), std::nullopt);
  s.published(0);
  s.receive(ack_of({0}));
  EXPECT_EQ(s.machine.take(), 1u);
  EXPECT_EQ(s.machine.take(), std::nullopt);
  s.published(1);
  s.receive(ack_of({1}));
  EXPECT_EQ(s.machine.take(), std::nullopt) << "16 bytes are free, the next segment has 160";
  s.published(2);
  s.receive(ack_of({2}));
  EXPECT_EQ(s.machine.take(), 3u);
}

TEST(SenderHandoff, AWindowSmallerThanASegmentIsAProtocolError) {
  Sender s;
  s.offered();
  const Effects e = s.receive(some_accept(s.offer, 63));
  EXPECT_EQ(e.end, End::kFailed);
  EXPECT_EQ(e.why.code(), Code::kProtocol);
  EXPECT_THAT(e.why.message(), AllOf(HasSubstr("63"), HasSubstr("64")));
}

TEST(SenderHandoff, HeldChunksAreNeverTaken) {
  Sender s(some_offer(64, 2));
  s.offered();
  s.all_ready();
  Accept accept = some_accept(s.offer, 1 << 20, 17);  // chunk 0 whole, chunk 1 in part
  accept.held_chunks[2] = true;
  s.receive(accept);
  EXPECT_FALSE(s.machine.needed(0));
  EXPECT_TRUE(s.machine.needed(2));
  EXPECT_FALSE(s.machine.needed(4));
  s.all_ready();  // again, after ACCEPT
  std::vector<uint32_t> taken;
  Effects last;
  while (const auto segment = s.machine.take()) {
    taken.push_back(*segment);
    last = s.published(*segment);
    s.publish_done(*segment);
  }
  EXPECT_THAT(taken, ElementsAre(2, 6, 3, 7));
  EXPECT_TRUE(find<Sent>(last)->all);
  s.receive(ack_of({2, 3, 6, 7}));
  EXPECT_EQ(s.receive(Commit{some_handoff()}).end, End::kCommitted);
}

TEST(SenderHandoff, EverythingHeldWaitsOnlyForCommit) {
  Sender s;
  s.sending(0, 32);
  s.all_ready();
  EXPECT_EQ(s.machine.take(), std::nullopt);
  EXPECT_EQ(s.machine.next_deadline(), kStart + SenderConfig{}.commit_deadline);
  EXPECT_EQ(s.receive(Commit{some_handoff()}).end, End::kCommitted);
}

TEST(SenderHandoff, GiveBackUndoesTake) {
  Sender s;
  s.sending();
  s.all_ready();
  const SenderHandoff before = s.machine;
  EXPECT_EQ(s.machine.take(), 0u);
  EXPECT_NE(s.machine, before);
  EXPECT_THAT(names(s.give_back(0)), IsEmpty());
  EXPECT_EQ(s.machine, before);
  EXPECT_EQ(s.machine.take(), 0u);
}

TEST(SenderHandoff, WhatWasAskedForAgainGoesFirstAlsoAfterItWasGivenBack) {
  Sender s(some_offer(32, 1));
  s.sending(64);
  s.machine.segment_ready(s.now, 1);
  ASSERT_THAT(s.publish_all(), ElementsAre(1));
  s.receive(Resend{some_handoff(), {1}});
  ASSERT_EQ(s.machine.take(), 1u);
  s.machine.segment_ready(s.now, 0);
  s.give_back(1);
  EXPECT_EQ(s.machine.take(), 1u) << "before segment 0, which is new";
  s.give_back(1);
  s.receive(ack_of({1}));  // the first copy, late
  EXPECT_THAT(s.publish_all(), ElementsAre(0));
}

TEST(SenderHandoff, GiveBackAfterTheEndMakesItQuiet) {
  Sender s;
  s.sending();
  s.all_ready();
  EXPECT_EQ(s.machine.take(), 0u);
  Effects e = s.receive(Cancel{some_handoff(), "stop"});
  EXPECT_EQ(e.end, End::kCancelled);
  EXPECT_FALSE(e.quiet);
  EXPECT_THAT(names(e), IsEmpty()) << "DRAINED waits for the source to be read no more";
  e = s.give_back(0);
  EXPECT_TRUE(e.quiet);
  EXPECT_THAT(names(e), ElementsAre("DRAINED"));
}

TEST(SenderHandoff, IsQuietOnceTheLastPublishIsBack) {
  Sender s;
  s.sending();
  s.all_ready();
  const uint32_t a = *s.machine.take();
  const uint32_t b = *s.machine.take();
  s.published(a);
  Effects e = s.step([&](Effects& effects) {
    s.machine.abort(s.now, End::kFailed, Status(Code::kInternal, "out of order"), effects);
  });
  EXPECT_THAT(names(e), ElementsAre("FAILED"));
  EXPECT_EQ(find<Failed>(e)->code, Code::kInternal);
  EXPECT_EQ(e.end, End::kFailed);
  EXPECT_FALSE(e.quiet);
  EXPECT_EQ(s.machine.take(), std::nullopt);
  EXPECT_THAT(names(s.published(b)), IsEmpty());
  EXPECT_FALSE(s.publish_done(b).quiet);
  EXPECT_EQ(s.machine.publishes_under_way(), 1u);
  EXPECT_TRUE(s.publish_done(a).quiet);
  EXPECT_THAT(names(s.receive(Cancel{some_handoff(), ""})), ElementsAre("DRAINED"));
  EXPECT_FALSE(s.receive(Cancel{some_handoff(), ""}).quiet);
  EXPECT_FALSE(s.machine.peer_drained());
  s.receive(Drained{some_handoff()});
  EXPECT_TRUE(s.machine.peer_drained());
}

TEST(SenderHandoff, PackedPublishesMayBeDoneBeforeTheyArePublished) {
  Sender s;
  s.sending();
  s.all_ready();
  const uint32_t segment = *s.machine.take();
  EXPECT_THAT(names(s.publish_done(segment)), IsEmpty());
  EXPECT_THAT(names(s.published(segment)), ElementsAre("SENT"));
  s.receive(Resend{some_handoff(), {segment}});
  EXPECT_EQ(s.machine.take(), segment);
}

TEST(SenderHandoff, ASegmentIsNotTakenAgainWhileItsPublishIsUnderWay) {
  Sender s(some_offer(16, 1));
  s.sending();
  s.all_ready();
  const uint32_t segment = *s.machine.take();
  s.published(segment);
  s.receive(Resend{some_handoff(), {segment}});
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 0u) << "asked for again: not in the window";
  EXPECT_EQ(s.machine.take(), std::nullopt);
  s.publish_done(segment);
  EXPECT_EQ(s.machine.take(), segment);
  EXPECT_THAT(names(s.published(segment)), IsEmpty()) << "SENT counts different segments";
}

TEST(SenderHandoff, AnAckOvertakesARequestToSendAgain) {
  Sender s(some_offer(16, 1));
  s.sending();
  s.all_ready();
  s.publish_all();
  s.receive(Resend{some_handoff(), {0}});
  s.receive(ack_of({0}));  // the channel had doubled it
  EXPECT_EQ(s.machine.take(), std::nullopt);
  s.receive(Resend{some_handoff(), {0}});  // late
  EXPECT_EQ(s.machine.take(), std::nullopt);
  EXPECT_EQ(s.receive(Commit{some_handoff()}).end, End::kCommitted);
}

TEST(SenderHandoff, AnAckWhileTheNextCopyIsTakenDoesNotCountTwice) {
  Sender s(some_offer(16, 1));
  s.sending();
  s.all_ready();
  s.publish_all();
  s.receive(Resend{some_handoff(), {0}});
  ASSERT_EQ(s.machine.take(), 0u);
  s.receive(ack_of({0}));
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 0u);
  s.give_back(0);
  EXPECT_EQ(s.machine.take(), std::nullopt);
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 0u);
}

TEST(SenderHandoff, OnlyWhatIsAcknowledgedCountsAsDelivered) {
  Sender s(some_offer(32, 1));
  s.sending();
  s.all_ready();
  EXPECT_EQ(s.machine.take(), 0u);
  EXPECT_EQ(s.machine.acknowledged_bytes(), 0u);  // being gathered
  s.published(0);
  s.publish_done(0);
  s.publish_all();
  EXPECT_EQ(s.machine.acknowledged_bytes(), 0u);
  s.receive(Resend{some_handoff(), {0}});
  s.publish_all();
  s.receive(ack_of({0}));
  s.receive(ack_of({0}));
  EXPECT_EQ(s.machine.published_bytes(), 3u * 64);
  EXPECT_EQ(s.machine.acknowledged_bytes(), 64u);
  s.receive(ack_of({1}));
  EXPECT_EQ(s.machine.acknowledged_bytes(), 2u * 64);
}

TEST(SenderHandoff, AResendThatNamesNothingMeansWhatIsOnItsWay) {
  Sender s(some_offer(64, 1));
  s.sending(3 * 64);
  s.all_ready();
  EXPECT_THAT(s.publish_all(), ElementsAre(0, 1, 2));
  s.receive(ack_of({1}));
  EXPECT_EQ(s.machine.take(), 3u);  // taken, not yet published: it will come by itself
  s.receive(Resend{some_handoff(), {}});
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 64u);
  s.published(3);
  EXPECT_THAT(s.publish_all(), ElementsAre(0, 2));
  EXPECT_EQ(s.machine.unacknowledged_bytes(), 3u * 64);
}

TEST(SenderHandoff, PublishesASegmentSoOftenAndNoMore) {
  Sender s(some_offer(16, 1), {.max_publishes_per_segment = 3});
  s.sending();
  s.all_ready();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(s.publish_all().size(), 1u);
    const Effects e = s.receive(Resend{some_handoff(), {0}});
    EXPECT_EQ(e.end.has_value(), i == 2);
    if (i == 2) {
      EXPECT_EQ(e.end, End::kFailed);
      EXPECT_EQ(e.why.code(), Code::kChecksum);
      EXPECT_THAT(names(e), ElementsAre("FAILED"));
    }
  }
  EXPECT_EQ(s.machine.published_bytes(), 3u * 64);
}

TEST(SenderHandoff, WhatWasNeverPublishedCannotBeAcknowledgedNorWhatIsNotThereBeAskedFor) {
  for (const Message& message :
       {Message(ack_of({1})), Message(ack_of({4})), Message(Resend{some_handoff(), {4}}),
        Message(Ack{some_handoff(), UINT32_MAX, {1}}), Message(Commit{some_handoff()}),
        Message(Drained{some_handoff()})}) {
    Sender s;
    s.sending();
    s.machine.segment_ready(s.now, 0);
    s.publish_all();
    const Effects e = s.receive(message);
    EXPECT_EQ(e.end, End::kFailed) << message_name(message);
    EXPECT_EQ(e.why.code(), Code::kProtocol);
    EXPECT_THAT(names(e), ElementsAre("FAILED"));
  }
}

// Bytes that came under its number, and were another segment's, did not verify.
TEST(SenderHandoff, WhatIsAskedForBeforeItIsPublishedIsPublishedOnce) {
  Sender s;
  s.sending();
  s.machine.segment_ready(s.now, 0);
  s.publish_all();
  const Effects e = s.receive(Resend{some_handoff(), {1}});
  EXPECT_EQ(e.end, std::nullopt);
  EXPECT_THAT(e.messages, IsEmpty());
  EXPECT_THAT(s.publish_all(), IsEmpty());
  s.machine.segment_ready(s.now, 1);
  EXPECT_THAT(s.publish_all(), ElementsAre(1));
}

TEST(SenderHandoff, AnAcceptThatDoesNotFitTheOfferIsAProtocolError) {
  for (const uint32_t variant : {0, 1}) {
    Sender s;
    s.offered();
    Accept accept = some_accept(s.offer);
    if (variant == 0) accept.held_tokens = 33;
    if (variant == 1) accept.held_chunks.push_back(true);
    const Effects e = s.receive(accept);
    EXPECT_EQ(e.end, End::kFailed);
    EXPECT_EQ(e.why.code(), Code::kProtocol);
  }
}

TEST(SenderHandoff, ABadOfferOfOursEndsAsFailed) {
  Sender s;
  s.offer.keys.pop_back();
  const Effects e = s.offered();
  EXPECT_EQ(e.end, End::kFailed);
  EXPECT_EQ(e.why.code(), Code::kInvalidArgument);
  EXPECT_THAT(names(e), ElementsAre("FAILED"));
}

TEST(SenderHandoff, RefusalCarriesTheReason) {
  Sender s;
  s.offered();
  const Effects e = s.receive(Refuse{some_handoff(), RefuseReason::kKeys, "key of chunk 1"});
  EXPECT_EQ(e.end, End::kRefused);
  EXPECT_EQ(e.why.code(), Code::kRefused);
  EXPECT_EQ(e.why.message(), "keys: key of chunk 1");
  EXPECT_TRUE(e.quiet);
  EXPECT_THAT(names(e), IsEmpty());
  EXPECT_TRUE(s.machine.peer_drained());
}

TEST(SenderHandoff, PeerLostEndsAsFailedAndSaysNothingMore) {
  Sender s;
  s.sending();
  s.all_ready();
  ASSERT_EQ(s.machine.take(), 0u);
  s.receive(Cancel{some_handoff(), "stop"});
  Effects e = s.step([&](Effects& effects) {
    s.machine.peer_lost(s.now, Status(Code::kUnavailable, "gone"), effects);
  });
  EXPECT_FALSE(e.end.has_value());
  e = s.publish_done(0);
  EXPECT_TRUE(e.quiet);
  EXPECT_THAT(names(e), IsEmpty()) << "nobody is there to hear DRAINED";

  Sender t;
  t.sending();
  e = t.step([&](Effects& effects) {
    t.machine.peer_lost(t.now, Status(Code::kUnavailable, "gone"), effects);
  });
  EXPECT_EQ(e.end, End::kFailed);
  EXPECT_EQ(e.why.message(), "gone");
  EXPECT_THAT(names(e), IsEmpty());
}

// Each deadline: nothing a nanosecond before it, the end at it.
void expect_expiry_at(Sender& s, TimePoint deadline) {
  ASSERT_EQ(s.machine.next_deadline(), deadline);
  s.now = deadline - nanoseconds(1);
  Effects e = s.advance();
  EXPECT_FALSE(e.end.has_value());
  EXPECT_THAT(names(e), IsEmpty());
  EXPECT_EQ(s.machine.next_deadline(), deadline);
  s.now = deadline;
  e = s.advance();
  EXPECT_EQ(e.end, End::kExpired);
  EXPECT_EQ(e.why.code(), Code::kDeadlineExceeded);
  EXPECT_THAT(names(e), ElementsAre("CANCEL"));
  EXPECT_TRUE(e.quiet);
  EXPECT_FALSE(s.advance().end.has_value());
}

TEST(SenderHandoff, TheBudgetEndsEveryState) {
  for (const State state : {State::kNew, State::kQueued}) {
    Sender s;
    s.in_state(state);
    expect_expiry_at(s, kStart + kBudget);
  }
  Sender sending;
  sending.sending();
  expect_expiry_at(sending, kStart + kBudget);
}

TEST(SenderHandoff, AcceptDeadlineRunsFromTheOffer) {
  Sender s(some_offer(32, 2), {.accept_deadline = seconds(5)});
  s.now += seconds(1);
  s.offered();
  expect_expiry_at(s, kStart + seconds(6));
}

TEST(SenderHandoff, ProgressDeadlineRunsOnlyWhileSomethingCouldProgress) {
  Sender s(some_offer(64, 1));
  s.sending();
  EXPECT_EQ(s.machine.next_deadline(), kStart + kBudget) << "waiting for compute has no other";
  s.machine.segment_ready(s.now, 0);
  s.machine.segment_ready(s.now, 1);
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(2));
  s.now += seconds(1);
  const uint32_t first = *s.machine.take();
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(1)) << "taken is not yet published";
  s.published(first);
  s.publish_done(first);
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(2));
  s.now += seconds(1);
  s.publish_all();
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(1)) << "a publish is no progress";
  s.receive(ack_of({0}));
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(2));
  s.now += seconds(1);
  s.receive(ack_of({0}));
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(1)) << "nor is a doubled ACK";
  Sender t = s;
  expect_expiry_at(t, s.now + seconds(1));
  s.receive(ack_of({1}));
  EXPECT_EQ(s.machine.next_deadline(), kStart + kBudget);
}

TEST(SenderHandoff, WhatFindsNoMemoryToBeSentFromExpires) {
  Sender s(some_offer(64, 1));
  s.offered();
  s.machine.segment_ready(s.now, 0);
  s.machine.segment_ready(s.now, 1);
  s.now += seconds(1);
  s.receive(some_accept(s.offer));
  const TimePoint accepted = s.now;
  s.now += seconds(1);
  ASSERT_EQ(s.machine.take(), 0u);
  s.give_back(0);  // tried and given back: no progress
  s.machine.segment_ready(s.now, 2);
  Sender never = s;
  expect_expiry_at(never, accepted + seconds(2));
  // What is on the wire counts for itself, and its last ACK begins anew.
  ASSERT_EQ(s.machine.take(), 0u);
  s.published(0);
  s.publish_done(0);
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(2));
  s.now += seconds(1);
  s.receive(ack_of({0}));
  EXPECT_EQ(s.machine.next_deadline(), s.now + seconds(2));
  ASSERT_EQ(s.machine.take(), 1u);  // a gather that does not return
  s.now += seconds(1);
  Sender stuck = s;
  EXPECT_EQ(stuck.machine.next_deadline(), stuck.now + seconds(1));
  stuck.now += seconds(1);
  EXPECT_EQ(stuck.advance().end, End::kExpired);
  EXPECT_TRUE(stuck.publish_done(1).quiet);
  // Asked for again, and no memory: the same.
  s.published(1);
  s.publish_done(1);
  s.receive(Resend{some_handoff(), {1}});
  expect_expiry_at(s, s.now + seconds(2));
}

TEST(SenderHandoff, CommitDeadlineRunsFromTheLastAck) {
  Sender s;
  s.sending();
  s.all_ready();
  s.publish_all();
  s.now += milliseconds(1500);
  s.receive(ack_of({0, 1, 2, 3}));
  expect_expiry_at(s, s.now + seconds(2));
}

TEST(SenderHandoff, FailedAndCancelFromThePeerAreAnsweredByDrained) {
  for (const State state : {State::kNew, State::kQueued, State::kOffered, State::kSending}) {
    Sender cancelled;
    cancelled.in_state(state);
    Effects e = cancelled.receive(Cancel{some_handoff(), "stop"});
    EXPECT_EQ(e.end, End::kCancelled);
    EXPECT_EQ(e.why.message(), "stop");
    EXPECT_THAT(names(e), ElementsAre("DRAINED"));
    Sender failed;
    failed.in_state(state);
    e = failed.receive(Failed{some_handoff(), Code::kChecksum, "bad"});
    EXPECT_EQ(e.end, End::kFailed);
    EXPECT_EQ(e.why.code(), Code::kChecksum);
    EXPECT_THAT(names(e), ElementsAre("DRAINED"));
  }
}

// What every message does in every state: the end it brings, or none.
TEST(SenderHandoff, EveryMessageInEveryState) {
  constexpr auto kIgnored = std::optional<End>();
  constexpr auto kFails = std::optional(End::kFailed);
  constexpr auto kRefused = std::optional(End::kRefused);
  constexpr auto kCancelled = std::optional(End::kCancelled);
  struct Row {
    const char* message;
    std::optional<End> in_new, in_queued, in_offered, in_sending;
  };
  const Row rows[] = {
      {"QUEUED", kFails, kFails, kFails, kFails},
      {"OFFER", kFails, kFails, kFails, kFails},
      {"ACCEPT", kFails, kFails, kIgnored, kIgnored},
      {"REFUSE", kRefused, kRefused, kRefused, kRefused},
      {"SENT", kFails, kFails, kFails, kFails},
      {"ACK", kFails, kFails, kFails, kIgnored},
      {"RESEND", kFails, kFails, kFails, kIgnored},
      {"COMMIT", kFails, kFails, kFails, kFails},  // kSending: not all is acknowledged
      {"FAILED", kFails, kFails, kFails, kFails},
      {"CANCEL", kCancelled, kCancelled, kCancelled, kCancelled},
      {"DRAINED", kFails, kFails, kFails, kFails},
      {"FETCH", kIgnored, kIgnored, kIgnored, kIgnored},
      {"MISS", kFails, kFails, kFails, kFails},
  };
  const std::vector<Message> messages = one_of_each(some_offer(32, 2));
  ASSERT_EQ(messages.size(), std::size(rows));
  for (size_t i = 0; i < messages.size(); ++i) {
    ASSERT_STREQ(message_name(messages[i]), rows[i].message);
    const std::optional<End> expected[] = {rows[i].in_new, rows[i].in_queued, rows[i].in_offered,
                                           rows[i].in_sending, kIgnored};
    for (int state = 0; state <= static_cast<int>(State::kEnded); ++state) {
      Sender s;
      s.in_state(static_cast<State>(state));
      const bool ended = s.machine.state() == State::kEnded;
      const Effects e = s.receive(messages[i]);
      EXPECT_EQ(e.end, expected[state]) << rows[i].message << " in state " << state;
      EXPECT_EQ(e.quiet, expected[state].has_value()) << rows[i].message << " in state " << state;
      EXPECT_EQ(s.machine.state() == State::kEnded, ended || expected[state].has_value());
      // And once more, whatever the first did: no second end.
      if (s.machine.state() == State::kEnded) {
        const Effects again = s.receive(messages[i]);
        EXPECT_FALSE(again.end.has_value());
        EXPECT_FALSE(again.quiet);
      }
    }
  }
}

TEST(SenderHandoff, TheLocalSideDoesNothingAfterTheEnd) {
  Sender s;
  s.in_state(State::kEnded);
  const SenderHandoff ended = s.machine;
  Effects e;
  s.machine.queued(s.now, e);
  s.machine.offer(s.now, s.offer, e);
  s.machine.segment_ready(s.now, 0);
  s.machine.abort(s.now, End::kFailed, {}, e);
  s.machine.peer_lost(s.now, {}, e);
  s.now += kBudget;
  s.machine.advance(s.now, e);
  EXPECT_EQ(s.machine.take(), std::nullopt);
  EXPECT_THAT(names(e), IsEmpty());
  EXPECT_FALSE(e.end.has_value());
  EXPECT_FALSE(e.quiet);
  EXPECT_EQ(s.machine, ended);
}

TEST(SenderHandoff, FortyThousandSegmentsAreNoQuadraticWork) {
  Sender s(some_offer(16 * 1250, 32));
  s.sending(64 * 64);
  s.all_ready();
  uint32_t published = 0;
  while (true) {
    const std::vector<uint32_t> taken = s.publish_all();
    if (taken.empty()) break;
    published += taken.size();
    for (const uint32_t segment : taken) {
      s.receive(Ack{some_handoff(), segment / 64, {uint64_t{1} << segment % 64}});
    }
  }
  EXPECT_EQ(published, 40'000u);
  EXPECT_EQ(s.receive(Commit{some_handoff()}).end, End::kCommitted);
}

}  // namespace
}  // namespace baton::protocol
