#include "transfer/ucx/ucx_channel.h"

#include <gmock/gmock.h>

#include <random>

#include "tests/transfer/ucx/test_side.h"

namespace baton::ucx {
namespace {

using namespace std::chrono_literals;
using namespace testing;

class UcxChannelTest : public ::testing::Test {
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
  Status send_retained(Side& from, const SegmentHeader& header, std::vector<Status>* outcomes) {
    auto slot = from.retained->allocate();
    if (!slot) return Status(Code::kResourceExhausted, "no slot");
    fill(slot->bytes().first(header.bytes), header.segment);
    return from.channel->publish(header, std::move(*slot), 0,
                                 [outcomes](const Status& status) { outcomes->push_back(status); });
  }
  boost::asio::io_context io_;
};

TEST_F(UcxChannelTest, SegmentsArriveAndTheirMemoryIsFreeBeforeTheyAreConsumed) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  EXPECT_EQ(a.channel->transport(), "ucx:tcp");
  EXPECT_EQ(b.channel->transport(), "ucx:tcp");
  std::vector<Status> outcomes;
  send(a, segment(1, 4000), &outcomes);
  send(a, segment(2, kTransitBytes), &outcomes);
  EXPECT_TRUE(outcomes.empty());  // not inside the call
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2 && outcomes.size() == 2; }));
  EXPECT_TRUE(outcomes[0].ok() && outcomes[1].ok());
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
  EXPECT_EQ(b.events.headers[0].segment, 1u);
  EXPECT_EQ(b.events.headers[0].handoff, handoff(1));
  EXPECT_EQ(b.events.headers[0].checksum.value, 1000u);
  ASSERT_EQ(b.events.payloads[0].bytes().size(), 4000u);
  ASSERT_EQ(b.events.payloads[1].bytes().size(), kTransitBytes);
  EXPECT_TRUE(filled(b.events.payloads[0].bytes(), 1));
  EXPECT_TRUE(filled(b.events.payloads[1].bytes(), 2));
}

// Sends numbered segments of random sizes as fast as the channel takes them, from staging memory
// and from retained slots by turns.
struct Pump {
  static constexpr uint32_t kSegments = 400;
  Side& from;
  Side& to;
  std::mt19937 random{7};
  std::vector<size_t> sizes{};
  uint32_t sent = 0;
  std::vector<bool> received = std::vector<bool>(kSegments);
  uint32_t count = 0;
  uint32_t done = 0;

  bool send_one() {
    const bool retained = sent % 3 == 0;
    const size_t most = retained ? kRetainedBytes : kTransitBytes;
    if (sizes.size() == sent) sizes.push_back(1 + random() % (random() % 4 == 0 ? most : 9000));
    const size_t bytes = sizes[sent];
    const auto told = [this](const Status& status) {
      done += status.ok();
      send();  // a retained slot may be free again
    };
    if (retained) {
      auto slot = from.retained->allocate();
      if (!slot) return false;
      const size_t offset = random() % (most - bytes + 1);
      fill(slot->bytes().subspan(offset, bytes), sent);
      const Status status =
          from.channel->publish(segment(sent, bytes), std::move(*slot), offset, told);
      EXPECT_TRUE(status.ok() || status.code() == Code::kResourceExhausted) << status.to_string();
      return status.ok();
    }
    auto staging = from.channel->acquire(bytes);
    EXPECT_TRUE(staging.ok());
    if (!staging.ok() || !*staging) return false;
    fill((*staging)->bytes, sent);
    EXPECT_TRUE(from.channel->publish(segment(sent, bytes), std::move(**staging), told).ok());
    return true;
  }
  void send() {
    while (sent < kSegments && send_one()) ++sent;
  }
  void receive() {
    for (; !to.events.payloads.empty(); to.events.payloads.pop_front(), ++count) {
      const SegmentHeader& header = to.events.headers[count];
      ASSERT_FALSE(received[header.segment]);
      received[header.segment] = true;
      ASSERT_EQ(header.bytes, sizes[header.segment]);
      // Into poisoned memory, as a scatter would.
      std::vector<std::byte> poisoned(header.bytes + 16, std::byte{0xa5});
      const auto bytes = to.events.payloads.front().bytes();
      ASSERT_EQ(bytes.size(), header.bytes);
      std::copy(bytes.begin(), bytes.end(), poisoned.begin() + 8);
      ASSERT_TRUE(filled(std::span(poisoned).subspan(8, header.bytes), header.segment));
    }
  }
};

void pump_both_ways(boost::asio::io_context& io, UcxConfig config) {
  Side a(io, 1, config, 8), b(io, 2, config, 8);
  join(io, a, b);
  Pump there{a, b}, back{b, a};
  a.events.when_staging = [&] { there.send(); };
  b.events.when_staging = [&] { back.send(); };
  there.send();
  back.send();
  ASSERT_TRUE(run_until(io,
                        [&] {
                          there.receive();
                          back.receive();
                          return there.done == Pump::kSegments && back.done == Pump::kSegments &&
                                 there.count == Pump::kSegments && back.count == Pump::kSegments;
                        }))
      << there.sent << " " << there.done << " " << there.count << ", back " << back.sent << " "
      << back.done << " " << back.count;
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
  EXPECT_EQ(a.retained->counts().free, a.retained->counts().total);
}

TEST_F(UcxChannelTest, BothDirectionsRandomSizes) { pump_both_ways(io_, {}); }

TEST_F(UcxChannelTest, CutSegmentsAreTheSameBytes) {
  pump_both_ways(io_, {.message_bytes = 4096, .max_unconsumed_bytes = 2 << 20});
}

TEST_F(UcxChannelTest, LittleRoomAndNoSpinning) {
  pump_both_ways(io_, {.spin = 0ns, .max_sending_bytes = 1, .max_unconsumed_bytes = 2 << 20});
}

TEST_F(UcxChannelTest, WhatCannotBePublishedIsTheCallersMistake) {
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

TEST_F(UcxChannelTest, APeerThatDoesNotConsumeStopsTheSender) {
  Side a(io_, 1, {}, 8), b(io_, 2, {.max_unconsumed_bytes = 1}, 8);  // b takes two segments
  join(io_, a, b);
  std::vector<Status> outcomes;
  send(a, segment(1, kTransitBytes), &outcomes);
  send(a, segment(2, kTransitBytes), &outcomes);
  ASSERT_TRUE(until([&] { return outcomes.size() == 2 && b.events.payloads.size() == 2; }));
  const auto none = a.channel->acquire(100);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
  EXPECT_EQ(send_retained(a, segment(3, 100), &outcomes).code(), Code::kResourceExhausted);
  run_for(io_, 20ms);
  EXPECT_EQ(a.events.stagings, 0);
  b.events.payloads.pop_front();
  ASSERT_TRUE(until([&] { return a.events.stagings == 1; }));
  send(a, segment(3, kTransitBytes), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
  EXPECT_TRUE(filled(b.events.payloads[1].bytes(), 3));
}

TEST_F(UcxChannelTest, ForgottenHandoffsAreToldAndNothingElseIs) {
  Side a(io_, 1), b(io_, 2, {.max_unconsumed_bytes = 1});
  join(io_, a, b);
  std::vector<Status> one, two;
  send(a, segment(1, kTransitBytes, 1), &one);
  send(a, segment(2, kTransitBytes, 2), &two);
  a.channel->forget(handoff(1));
  a.channel->forget(handoff(1));
  EXPECT_TRUE(one.empty());  // not inside the call
  ASSERT_TRUE(until([&] { return one.size() == 1 && two.size() == 1; }));
  EXPECT_EQ(one[0].code(), Code::kCancelled);
  EXPECT_TRUE(two[0].ok());
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));  // UCX had both
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
  b.events.payloads.clear();
  ASSERT_TRUE(until([&] {
    auto staging = a.channel->acquire(64);
    return staging.ok() && staging->has_value();
  }));
  std::vector<Status> three;
  send(a, segment(3, 100), &three);  // the channel lives on
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1 && three.size() == 1; }));
  EXPECT_EQ(one.size(), 1u);
}

TEST_F(UcxChannelTest, WhatIsForgottenBeforeItWasSentNeverIs) {
  Side a(io_, 1, {}, 8), b(io_, 2, {.max_unconsumed_bytes = 1}, 8);
  join(io_, a, b);
  // Two are lent while there is room for both; then a third takes the room of one.
  auto first = a.channel->acquire(kTransitBytes);
  auto second = a.channel->acquire(kTransitBytes);
  auto third = a.channel->acquire(kTransitBytes);
  ASSERT_TRUE(first.ok() && *first && second.ok() && *second && third.ok() && *third);
  std::vector<Status> outcomes, forgotten;
  const auto done = [&](const Status& status) { outcomes.push_back(status); };
  ASSERT_TRUE(a.channel->publish(segment(1, kTransitBytes), std::move(**first), done).ok());
  ASSERT_TRUE(a.channel->publish(segment(2, kTransitBytes), std::move(**second), done).ok());
  ASSERT_TRUE(a.channel
                  ->publish(segment(3, kTransitBytes, 9), std::move(**third),
                            [&](const Status& status) { forgotten.push_back(status); })
                  .ok());
  ASSERT_TRUE(until([&] { return outcomes.size() == 2 && b.events.payloads.size() == 2; }));
  EXPECT_EQ(a.transit->counts().held, 1u);
  a.channel->forget(handoff(9));
  EXPECT_EQ(a.transit->counts().held, 0u);
  ASSERT_TRUE(until([&] { return forgotten.size() == 1; }));
  EXPECT_EQ(forgotten[0].code(), Code::kCancelled);
  b.events.payloads.clear();
  run_for(io_, 20ms);
  EXPECT_EQ(b.events.headers.size(), 2u);
}

TEST_F(UcxChannelTest, MemoryIsHeldUntilItsRequestsAreBack) {
  Side a(io_, 1, {.max_sending_bytes = 64u << 20, .max_unconsumed_bytes = 64u << 20}, 64);
  Side b(io_, 2, {.max_unconsumed_bytes = 64u << 20}, 64);
  join(io_, a, b);
  // Nobody progresses b meanwhile, so most of this stays in UCX's hands.
  std::vector<Code> outcomes;
  for (uint32_t i = 0; i < 48; ++i) {
    auto staging = a.channel->acquire(kTransitBytes);
    ASSERT_TRUE(staging.ok() && *staging);
    ASSERT_TRUE(a.channel
                    ->publish(segment(i, kTransitBytes), std::move(**staging),
                              [&](const Status& status) {
                                EXPECT_TRUE(a.events.closes.empty());
                                outcomes.push_back(status.code());
                              })
                    .ok());
  }
  const size_t held = a.transit->counts().held;
  EXPECT_GT(held, 24u);
  a.channel->forget(handoff(1));
  EXPECT_EQ(a.transit->counts().held, held);  // told, but UCX still reads it
  a.channel->close(Status(Code::kUnavailable, "the node went"));
  a.channel->close(Status(Code::kInternal, "again"));
  a.channel->forget(handoff(1));
  EXPECT_EQ(a.transit->counts().held, held);
  EXPECT_TRUE(outcomes.empty());
  EXPECT_TRUE(a.events.closes.empty());
  ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
  EXPECT_EQ(a.events.closes[0].message(), "the node went");
  EXPECT_EQ(outcomes.size(), 48u);
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
  ASSERT_TRUE(until([&] { return b.events.closes.size() == 1; }));
  EXPECT_EQ(b.events.closes[0].code(), Code::kUnavailable);
  // What was received stays readable, also after the channel.
  b.channel.reset();
  for (size_t i = 0; i < b.events.payloads.size(); ++i)
    EXPECT_EQ(b.events.payloads[i].bytes().size(), kTransitBytes);
}

TEST_F(UcxChannelTest, AnOwnerThatLetsGoIsNotCalled) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  send(a, segment(1, kTransitBytes), &outcomes);
  a.channel.reset();
  EXPECT_TRUE(outcomes.empty());
  ASSERT_TRUE(until([&] { return outcomes.size() == 1 && !b.events.closes.empty(); }));
  EXPECT_TRUE(a.events.closes.empty());
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
}

TEST_F(UcxChannelTest, StopEndsOpeningsAndChannels) {
  Side a(io_, 1, {}, 32), b(io_, 2), c(io_, 3);
  join(io_, a, b);
  Events waiting;
  const auto never = a.open(c.hello(), false, waiting);
  const auto dialling = a.open(c.hello(), true, waiting);
  std::vector<Status> outcomes;
  for (uint32_t i = 0; i < 16; ++i) send(a, segment(i, kTransitBytes), &outcomes);
  a.endpoint->stop();
  a.endpoint->stop();
  const auto late = a.open(c.hello(), true, waiting);
  ASSERT_TRUE(until([&] {
    return never->has_value() && dialling->has_value() && late->has_value() &&
           a.events.closes.size() == 1 && b.events.closes.size() == 1;
  }));
  EXPECT_EQ((*never)->status().code(), Code::kUnavailable);
  EXPECT_EQ((*dialling)->status().code(), Code::kUnavailable);
  EXPECT_EQ((*late)->status().code(), Code::kUnavailable);
  EXPECT_EQ(outcomes.size(), 16u);
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
}

TEST_F(UcxChannelTest, ReceivedBytesOutliveChannelAndEndpoint) {
  Side b(io_, 2);
  {
    Side a(io_, 1);
    join(io_, a, b);
    std::vector<Status> outcomes;
    send(a, segment(5, kTransitBytes), &outcomes);
    ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1 && outcomes.size() == 1; }));
  }
  b.channel.reset();
  b.endpoint.reset();
  EXPECT_TRUE(filled(b.events.payloads[0].bytes(), 5));
  b.events.payloads.clear();
}

}  // namespace
}  // namespace baton::ucx
