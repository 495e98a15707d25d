#include "transfer/local/local_channel.h"

#include <gmock/gmock.h>

#include <boost/asio/post.hpp>

#include "tests/transfer/local/test_side.h"

namespace baton::local {
namespace {

using namespace std::chrono_literals;
using namespace testing;

class LocalChannelTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  // Publishes from staging memory; what `done` is told ends in `outcomes`.
  void send(Side& from, const SegmentHeader& header, std::vector<Status>* outcomes) {
    auto staging = from.channel->acquire(header.bytes);
    ASSERT_TRUE(staging.ok() && staging->has_value()) << staging.status().to_string();
    ASSERT_EQ((*staging)->bytes.size(), header.bytes);
    fill((*staging)->bytes, header.segment);
    const Status status =
        from.channel->publish(header, std::move(**staging),
                              [outcomes](const Status& status) { outcomes->push_back(status); });
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  boost::asio::io_context io_;
};

TEST_F(LocalChannelTest, SegmentsLieWhereThePeerReadsThemUntilItHasConsumedThem) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  EXPECT_EQ(a.channel->transport(), "local");
  std::vector<Status> outcomes;
  send(a, segment(1, 4000), &outcomes);
  send(a, segment(2, 4096), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
  EXPECT_EQ(b.events.headers[0].segment, 1u);
  EXPECT_EQ(b.events.headers[0].handoff, handoff(1));
  EXPECT_EQ(b.events.headers[0].checksum.value, 1000u);
  EXPECT_EQ(b.events.payloads[0].bytes().size(), 4000u);
  EXPECT_TRUE(filled(b.events.payloads[0].bytes(), 1));
  EXPECT_TRUE(filled(b.events.payloads[1].bytes(), 2));
  run_for(io_, 20ms);
  EXPECT_TRUE(outcomes.empty());
  EXPECT_EQ(a.transit->counts().held, 2u);
  b.events.payloads.clear();
  ASSERT_TRUE(until([&] { return outcomes.size() == 2; }));
  EXPECT_TRUE(outcomes[0].ok() && outcomes[1].ok());
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
}

// Sends numbered segments as fast as staging memory allows.
struct Pump {
  static constexpr uint32_t kSegments = 2000;
  Side& from;
  Side& to;
  uint32_t sent = 0;
  uint32_t received = 0;
  uint32_t done = 0;

  void send() {
    while (sent < kSegments) {
      const size_t bytes = 64 + sent % 4000;
      auto staging = from.channel->acquire(bytes);
      ASSERT_TRUE(staging.ok());
      if (!*staging) return;
      fill((*staging)->bytes, sent);
      ASSERT_TRUE(from.channel
                      ->publish(segment(sent, bytes), std::move(**staging),
                                [this](const Status& status) { done += status.ok(); })
                      .ok());
      ++sent;
    }
  }
  void receive() {
    for (; !to.events.payloads.empty(); to.events.payloads.pop_front()) {
      ASSERT_EQ(to.events.headers[received].segment, received);
      ASSERT_TRUE(filled(to.events.payloads.front().bytes(), received));
      ++received;
    }
  }
};

TEST_F(LocalChannelTest, BothDirectionsAndManySegments) {
  Side a(io_, 1, {}, 8), b(io_, 2, {}, 8);
  join(io_, a, b);
  Pump there{a, b}, back{b, a};
  a.events.when_staging = [&] { there.send(); };
  b.events.when_staging = [&] { back.send(); };
  there.send();
  back.send();
  ASSERT_TRUE(until([&] {
    there.receive();
    back.receive();
    return there.done == Pump::kSegments && back.done == Pump::kSegments;
  }));
  EXPECT_EQ(there.received, Pump::kSegments);
  EXPECT_EQ(back.received, Pump::kSegments);
}

TEST_F(LocalChannelTest, BetweenTwoSegmentsWhateverElseIsDueRuns) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  std::string order;
  b.events.when_segment = [&] {
    order += 's';
    boost::asio::post(io_, [&] { order += '.'; });
  };
  std::vector<Status> outcomes;
  for (uint32_t i = 0; i < 4; ++i) send(a, segment(i, 64), &outcomes);  // leave together
  ASSERT_TRUE(until([&] { return order.size() == 8; }));
  EXPECT_EQ(order, "s.s.s.s.");
}

TEST_F(LocalChannelTest, AChannelThatIsClosedOrLetGoBetweenTwoSegmentsShowsNoMore) {
  for (const bool let_go : {false, true}) {
    Side a(io_, 1), b(io_, 2);
    join(io_, a, b);
    b.events.when_segment = [&] {
      boost::asio::post(io_, [&] {
        let_go ? b.channel.reset() : b.channel->close(Status(Code::kCancelled, "enough"));
      });
    };
    std::vector<Status> outcomes;
    for (uint32_t i = 0; i < 4; ++i) send(a, segment(i, 64), &outcomes);
    ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
    run_for(io_, 10ms);
    EXPECT_EQ(b.events.payloads.size(), 1u);
    EXPECT_EQ(b.events.closes.size(), let_go ? 0u : 1u);
  }
}

TEST_F(LocalChannelTest, RetainedSlotsAreShownWhereTheyLie) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  auto slot = *a.retained->allocate();
  fill(slot.bytes().subspan(5000, 3000), 9);
  std::vector<Status> outcomes;
  const auto done = [&](const Status& status) { outcomes.push_back(status); };
  ASSERT_TRUE(a.channel->publish(segment(9, 3000), slot, 5000, done).ok());
  slot.reset();
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1; }));
  EXPECT_EQ(a.retained->counts().held, 1u);  // the channel keeps it
  EXPECT_TRUE(filled(b.events.payloads[0].bytes(), 9));
  b.events.payloads.clear();
  ASSERT_TRUE(until([&] { return outcomes.size() == 1; }));
  EXPECT_EQ(a.retained->counts().held, 0u);
}

TEST_F(LocalChannelTest, WhatCannotBePublishedIsTheCallersMistake) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  const auto never = [](const Status&) { FAIL(); };
  EXPECT_EQ(a.channel->acquire(kTransitBytes + 1).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(a.channel->acquire(0).status().code(), Code::kInvalidArgument);
  auto slot = *a.retained->allocate();
  EXPECT_EQ(a.channel->publish(segment(1, kRetainedBytes), slot, 1, never).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(a.channel->publish(segment(1, 0), slot, 0, never).code(), Code::kInvalidArgument);
  EXPECT_EQ(a.channel->publish(segment(1, 10), *b.retained->allocate(), 0, never).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(a.channel->publish(segment(1, 10), SlotRef(), 0, never).code(), Code::kInvalidArgument);
  a.channel->close(Status(Code::kCancelled, "enough"));
  EXPECT_EQ(a.channel->publish(segment(1, 10), slot, 0, never).code(), Code::kUnavailable);
  EXPECT_EQ(a.channel->acquire(10).status().code(), Code::kUnavailable);
}

TEST_F(LocalChannelTest, DroppedStagingMemoryIsFreeAgainOnceItsWriterIsGone) {
  Side a(io_, 1, {}, 1), b(io_, 2);
  join(io_, a, b);
  auto staging = a.channel->acquire(100);
  ASSERT_TRUE(staging.ok() && *staging);
  SlotWriter gather = std::move((*staging)->writer);
  staging->reset();
  auto none = a.channel->acquire(100);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());  // a gather is still writing
  EXPECT_EQ(a.transit->counts().quarantined, 1u);
  gather.reset();
  EXPECT_EQ(a.events.stagings, 0);  // not inside the call
  ASSERT_TRUE(until([&] { return a.events.stagings == 1; }));
  EXPECT_TRUE(a.channel->acquire(100)->has_value());
}

TEST_F(LocalChannelTest, ChannelsThatShareStagingMemoryTakeTurns) {
  Side a(io_, 1, {}, 1), b(io_, 2), c(io_, 3);
  join(io_, a, b);
  std::unique_ptr<Channel> to_b = std::move(a.channel);
  Events events_c;
  const auto ours = a.open(c.hello(), true, events_c);
  const auto theirs = c.open(a.hello(), false, c.events);
  ASSERT_TRUE(until([&] { return ours->has_value() && theirs->has_value(); }));
  std::unique_ptr<Channel> to_c = std::move(***ours);
  c.channel = std::move(***theirs);
  std::string order;
  const auto pump = [&](Channel& channel, char name) {
    while (order.size() < 40) {
      auto staging = channel.acquire(64);
      if (!staging.ok() || !*staging) return;
      order += name;
      ASSERT_TRUE(channel.publish(segment(0, 64), std::move(**staging), [](const Status&) {}).ok());
    }
  };
  a.events.when_staging = [&] { pump(*to_b, 'b'); };
  events_c.when_staging = [&] { pump(*to_c, 'c'); };
  pump(*to_b, 'b');
  pump(*to_c, 'c');
  ASSERT_TRUE(until([&] {
    b.events.payloads.clear();
    c.events.payloads.clear();
    return order.size() == 40;
  }));
  // b began to wait before c; from then on they alternate.
  EXPECT_EQ(order.find("bb", 1), std::string::npos) << order;
  EXPECT_EQ(order.find("cc"), std::string::npos) << order;
}

TEST_F(LocalChannelTest, WhatIsForgottenIsFreeAndItsLateConsumptionIgnored) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> one, two;
  send(a, segment(1, 100, 1), &one);
  send(a, segment(2, 100, 2), &two);
  send(a, segment(3, 100, 1), &one);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 3; }));
  a.channel->forget(handoff(1));
  a.channel->forget(handoff(1));
  EXPECT_TRUE(one.empty());  // not inside the call
  EXPECT_EQ(a.transit->counts().held, 1u);
  ASSERT_TRUE(until([&] { return one.size() == 2; }));
  EXPECT_EQ(one[0].code(), Code::kCancelled);
  EXPECT_TRUE(two.empty());
  b.events.payloads.clear();
  ASSERT_TRUE(until([&] { return two.size() == 1; }));
  EXPECT_TRUE(two[0].ok());
  EXPECT_EQ(one.size(), 2u);
  std::vector<Status> three;
  send(a, segment(4, 100), &three);  // the channel lives on
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1; }));
}

TEST_F(LocalChannelTest, NoMoreIsPublishedThanAllowed) {
  Side a(io_, 1, {.max_published = 2}), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  send(a, segment(1, 100), &outcomes);
  send(a, segment(2, 100), &outcomes);
  EXPECT_FALSE(a.channel->acquire(100)->has_value());
  const Status full =
      a.channel->publish(segment(3, 10), *a.retained->allocate(), 0, [](const Status&) {});
  EXPECT_EQ(full.code(), Code::kResourceExhausted);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
  b.events.payloads.pop_front();
  ASSERT_TRUE(until([&] { return outcomes.size() == 1 && a.events.stagings >= 1; }));
  send(a, segment(3, 100), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
}

TEST_F(LocalChannelTest, NoMoreIsStagedThanStaysInACache) {
  Side a(io_, 1, {.max_staged_bytes = 250}), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  send(a, segment(1, 100), &outcomes);
  send(a, segment(2, 100), &outcomes);
  EXPECT_FALSE(a.channel->acquire(100)->has_value());
  EXPECT_TRUE(a.channel->acquire(50)->has_value());
  // What lies in a slot anyway is none of it.
  ASSERT_TRUE(
      a.channel->publish(segment(3, 10), *a.retained->allocate(), 0, [](const Status&) {}).ok());
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 3; }));
  b.events.payloads.pop_front();
  ASSERT_TRUE(until([&] { return a.events.stagings >= 1; }));
  EXPECT_TRUE(a.channel->acquire(100)->has_value());
}

TEST_F(LocalChannelTest, TwoSegmentsMayAlwaysBeStaged) {
  Side a(io_, 1, {.max_staged_bytes = 1}), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  send(a, segment(1, 100), &outcomes);
  send(a, segment(2, 100), &outcomes);
  EXPECT_FALSE(a.channel->acquire(1)->has_value());
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
  b.events.payloads.pop_front();
  ASSERT_TRUE(until([&] { return outcomes.size() == 1 && a.events.stagings >= 1; }));
  send(a, segment(3, 100), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
}

// Whoever waits is told of memory that a handoff's end lets go of, also if the peer never is.
TEST_F(LocalChannelTest, WhatIsForgottenMakesRoomWithoutThePeer) {
  Side a(io_, 1, {.max_staged_bytes = 1}), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  send(a, segment(1, 100, 9), &outcomes);
  send(a, segment(2, 100, 9), &outcomes);
  EXPECT_FALSE(a.channel->acquire(100)->has_value());
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
  EXPECT_EQ(a.events.stagings, 0);
  a.channel->forget(handoff(9));
  ASSERT_TRUE(until([&] { return a.events.stagings >= 1; }));
  EXPECT_TRUE(a.channel->acquire(100)->has_value());
  EXPECT_EQ(b.events.payloads.size(), 2u);
}

// Staging memory that was lent while there was room is published when there is room again.
TEST_F(LocalChannelTest, WhatWasLentWaitsForRoom) {
  Side a(io_, 1, {.max_published = 1}), b(io_, 2);
  join(io_, a, b);
  std::vector<Staging> lent;
  for (uint32_t i = 0; i < 3; ++i) {
    auto staging = a.channel->acquire(100);
    ASSERT_TRUE(staging.ok() && *staging);
    fill((*staging)->bytes, i);
    lent.push_back(std::move(**staging));
  }
  std::vector<std::pair<uint32_t, Code>> outcomes;
  for (uint32_t i = 0; i < 3; ++i) {
    const Status status =
        a.channel->publish(segment(i, 100, i == 1 ? 9 : 1), std::move(lent[i]),
                           [&outcomes, i](const Status& s) { outcomes.emplace_back(i, s.code()); });
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  a.channel->forget(handoff(9));
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1 && outcomes.size() == 1; }));
  EXPECT_THAT(outcomes, ::testing::ElementsAre(std::pair(1u, Code::kCancelled)));
  b.events.payloads.pop_front();
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1; }));
  EXPECT_EQ(b.events.headers.back().segment, 2u);
  EXPECT_TRUE(filled(b.events.payloads.front().bytes(), 2));
  b.events.payloads.pop_front();
  ASSERT_TRUE(until([&] { return outcomes.size() == 3; }));
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
}

TEST_F(LocalChannelTest, CloseTellsEverybodyOnceAndTheOwnerLast) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  std::vector<Code> order;
  for (uint32_t i = 0; i < 3; ++i) {
    auto staging = a.channel->acquire(64);
    fill((*staging)->bytes, i);
    ASSERT_TRUE(a.channel
                    ->publish(segment(i, 64), std::move(**staging),
                              [&](const Status& status) {
                                EXPECT_TRUE(a.events.closes.empty());
                                order.push_back(status.code());
                              })
                    .ok());
  }
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 3; }));
  a.channel->close(Status(Code::kUnavailable, "the node went"));
  a.channel->close(Status(Code::kInternal, "again"));
  a.channel->forget(handoff(1));
  EXPECT_TRUE(order.empty());
  ASSERT_TRUE(until([&] { return !a.events.closes.empty() && !b.events.closes.empty(); }));
  EXPECT_EQ(order, std::vector<Code>(3, Code::kCancelled));
  run_for(io_, 20ms);
  ASSERT_EQ(a.events.closes.size(), 1u);
  EXPECT_EQ(a.events.closes[0].message(), "the node went");
  ASSERT_EQ(b.events.closes.size(), 1u);
  EXPECT_EQ(b.events.closes[0].code(), Code::kUnavailable);
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
  // The receiver may read on: it holds the mapping, not the channel.
  b.channel.reset();
  EXPECT_TRUE(filled(b.events.payloads[1].bytes(), 1));
  b.events.payloads.clear();
}

TEST_F(LocalChannelTest, AnOwnerThatLetsGoIsNotCalled) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  send(a, segment(1, 64), &outcomes);
  a.channel.reset();
  EXPECT_TRUE(outcomes.empty());
  ASSERT_TRUE(until([&] { return outcomes.size() == 1 && !b.events.closes.empty(); }));
  EXPECT_EQ(outcomes[0].code(), Code::kCancelled);
  EXPECT_TRUE(a.events.closes.empty());
}

TEST_F(LocalChannelTest, StopEndsOpeningsAndChannels) {
  Side a(io_, 1), b(io_, 2), c(io_, 3);
  join(io_, a, b);
  Events waiting;
  const auto never = a.open(c.hello(), false, waiting);
  a.endpoint->stop();
  a.endpoint->stop();
  const auto late = a.open(c.hello(), true, waiting);
  ASSERT_TRUE(until([&] {
    return never->has_value() && late->has_value() && a.events.closes.size() == 1 &&
           b.events.closes.size() == 1;
  }));
  EXPECT_EQ((*never)->status().code(), Code::kUnavailable);
  EXPECT_EQ((*late)->status().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace baton::local
