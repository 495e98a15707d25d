#include "transfer/tcp/tcp_channel.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <set>

#include "kernels/gather.h"
#include "tests/fakes/kv_engine.h"
#include "tests/transfer/tcp/test_side.h"

namespace baton::tcp {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using Otherwise = ChannelEvents::Otherwise;

// Segments large enough that none fits into what the system holds for a connection.
constexpr fakes::KvShape kLarge{
    .layers = 1, .heads = 8, .head_bytes = 256, .block_tokens = 16, .blocks = 1100};
constexpr uint32_t kLargeTokens = 8192;  // 32 MiB

const ChecksumSeed kSeed = make_seed({.layer = 3, .bytes = 99});

class TcpChannelTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  // What `done` is told ends in `outcomes`.
  static Channel::PublishDone noting(std::vector<Status>* outcomes) {
    return [outcomes](const Status& status) { outcomes->push_back(status); };
  }
  // Publishes from staging memory.
  void publish(Side& from, const SegmentHeader& header, std::vector<Status>* outcomes) {
    auto staging = from.channel->acquire(header.bytes);
    ASSERT_TRUE(staging.ok() && staging->has_value()) << staging.status().to_string();
    ASSERT_EQ((*staging)->bytes.size(), header.bytes);
    fill((*staging)->bytes, header.segment);
    const Status status = from.channel->publish(header, std::move(**staging), noting(outcomes));
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  static SegmentPlace place(fakes::KvEngine& engine, const std::vector<uint32_t>& blocks,
                            uint32_t tokens) {
    const KvMemory kv = engine.kv();
    return {{kv.layer_base[0], kv.layout, blocks.data(), tokens}, natural_order(kv.layout), kSeed};
  }
  void in_turns(const fakes::KvShape& shape);

  boost::asio::io_context io_;
};

TEST_F(TcpChannelTest, StagedSegmentsArriveWithTheirChecksum) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  EXPECT_EQ(a.channel->transport(), "tcp");
  std::vector<Status> outcomes;
  publish(a, segment(1, 4000), &outcomes);
  publish(a, segment(2, 4096), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2 && outcomes.size() == 2; }));
  EXPECT_TRUE(outcomes[0].ok() && outcomes[1].ok());
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
  for (size_t i = 0; i < 2; ++i) {  // by two lanes: in any order
    const SegmentHeader& header = b.events.headers[i];
    EXPECT_EQ(header.handoff, handoff(1));
    EXPECT_EQ(header.checksum.value, header.segment * 1000);
    EXPECT_EQ(b.events.payloads[i].bytes().size(), header.bytes);
    EXPECT_TRUE(filled(b.events.payloads[i].bytes(), header.segment));
  }
}

// Numbered segments as fast as the channel takes them.
struct Pump {
  static constexpr uint32_t kSegments = 2000;
  Side& from;
  Side& to;
  uint32_t sent = 0;
  uint32_t done = 0;
  std::set<uint32_t> received;

  void send() {
    while (sent < kSegments) {
      const size_t bytes = 1 + sent % 4096;
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
      const SegmentHeader header = to.events.headers.front();
      to.events.headers.erase(to.events.headers.begin());
      ASSERT_TRUE(received.insert(header.segment).second);
      ASSERT_EQ(to.events.payloads.front().bytes().size(), header.bytes);
      ASSERT_TRUE(filled(to.events.payloads.front().bytes(), header.segment));
    }
  }
};

TEST_F(TcpChannelTest, BothDirectionsAndManySegments) {
  Side a(io_, 1, {.lanes = 3}, 8), b(io_, 2, {.queued_segments = 1}, 8);
  join(io_, a, b);
  Pump there{a, b}, back{b, a};
  a.events.when_staging = [&] { there.send(); };
  b.events.when_staging = [&] { back.send(); };
  there.send();
  back.send();
  ASSERT_TRUE(until([&] {
    there.receive();
    back.receive();
    return there.received.size() == Pump::kSegments && back.received.size() == Pump::kSegments;
  }));
  EXPECT_EQ(there.done, Pump::kSegments);
  EXPECT_EQ(back.done, Pump::kSegments);
}

// Straight from blocks into blocks, in layouts of many run lengths, tails included.
TEST_F(TcpChannelTest, BlocksToBlocksByteForByte) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  uint32_t number = 0;
  for (const uint32_t head_bytes : {24u, 128u, 513u}) {
    for (const bool heads_first : {false, true}) {
      for (const uint32_t tokens : {1u, 16u, 500u}) {
        const fakes::KvShape shape{.layers = 1,
                                   .heads = 2,
                                   .head_bytes = head_bytes,
                                   .block_tokens = 16,
                                   .blocks = 64,
                                   .heads_first = heads_first};
        fakes::KvEngine from(shape, number), to(shape, number + 1000);
        const auto source = from.allocate(tokens), target = to.allocate(tokens);
        from.fill(0, source, 0, tokens, number);
        b.events.where = [&](const SegmentHeader&) { return place(to, target, tokens); };
        std::vector<Status> outcomes;
        SegmentHeader header = segment(number, segment_bytes(from.kv().layout, tokens));
        const Status sent = a.channel->send(header, place(from, source, tokens), noting(&outcomes));
        ASSERT_TRUE(sent.ok()) << sent.to_string();
        ASSERT_TRUE(
            until([&] { return b.events.placed.size() == number + 1 && outcomes.size() == 1; }));
        EXPECT_TRUE(outcomes[0].ok());
        const auto& [placed, checksum] = b.events.placed.back();
        ASSERT_TRUE(checksum.ok()) << checksum.status().to_string();
        EXPECT_EQ(*checksum, placed.checksum);
        EXPECT_EQ(to.wrong(target, 0, tokens, number), 0u);
        EXPECT_EQ(to.disturbed(target, tokens), 0u);
        ++number;
      }
    }
  }
}

// What the pipes of this process were written by is no pipe any more; how many there were.
int break_pipes() {
  int broken = 0;
  const UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    const int flags = ::fcntl(fd, F_GETFL);
    const bool pipe = ::fcntl(fd, F_GETPIPE_SZ) >= (256 << 10);
    if (pipe && (flags & O_ACCMODE) == O_WRONLY && ::dup2(nowhere.get(), fd) == fd) ++broken;
  }
  return broken;
}

// Blocks in long runs, and slots: lent to the system, copied because the option says so, and copied
// because they cannot be lent any more.
TEST_F(TcpChannelTest, LongRunsArriveLentOrCopied) {
  for (const auto& [zero_copy, lendable] : {std::pair(true, true), {false, true}, {true, false}}) {
    SCOPED_TRACE(std::string(zero_copy ? "zero copy" : "copy") +
                 (lendable ? "" : ", not lendable"));
    Side a(io_, 1, {.lanes = 1, .zero_copy = zero_copy}), b(io_, 2);
    join(io_, a, b);
    fakes::KvEngine from(kLarge), to(kLarge, 2);
    const auto source = from.allocate(kLargeTokens), target = to.allocate(kLargeTokens);
    from.fill(0, source, 0, kLargeTokens, 7);
    const auto slot = *a.retained->allocate();
    fill(slot.bytes(), 2);
    std::vector<Status> outcomes;
    const SegmentHeader kept = segment(2, slot.bytes().size());
    ASSERT_TRUE(a.channel->publish(kept, slot, 0, noting(&outcomes)).ok());
    ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1; }));
    EXPECT_TRUE(filled(b.events.payloads[0].bytes(), 2));
    if (!lendable) {
      EXPECT_EQ(break_pipes(), 1);
    }
    b.events.where = [&](const SegmentHeader&) { return place(to, target, kLargeTokens); };
    const uint64_t bytes = segment_bytes(from.kv().layout, kLargeTokens);
    const SegmentPlace here = place(from, source, kLargeTokens);
    ASSERT_TRUE(a.channel->send(segment(1, bytes), here, noting(&outcomes)).ok());
    ASSERT_TRUE(until([&] { return b.events.placed.size() == 1; }));
    EXPECT_EQ(outcomes.size(), 2u);
    const auto& [placed, checksum] = b.events.placed[0];
    ASSERT_TRUE(checksum.ok()) << checksum.status().to_string();
    EXPECT_EQ(*checksum, placed.checksum);
    EXPECT_EQ(to.wrong(target, 0, kLargeTokens, 7), 0u);
    EXPECT_EQ(to.disturbed(target, kLargeTokens), 0u);
  }
}

// What changes on its way: that it was lent, and that the checksum then says so.
TEST_F(TcpChannelTest, WhatIsLentStaysUntilItIsAcknowledgedOrDoesNotVerify) {
  for (const bool zero_copy : {true, false}) {
    Side a(io_, 1, {.lanes = 1, .zero_copy = zero_copy}), b(io_, 2);
    join(io_, a, b);
    fakes::KvEngine from(kLarge), to(kLarge, 2);
    const auto source = from.allocate(kLargeTokens), target = to.allocate(kLargeTokens);
    from.fill(0, source, 0, kLargeTokens, 7);
    // b has read the header when it asks, and a has written as much as the system takes.
    b.events.where = [&](const SegmentHeader&) {
      from.fill(0, source, 0, 16, 8);
      return place(to, target, kLargeTokens);
    };
    std::vector<Status> outcomes;
    const uint64_t bytes = segment_bytes(from.kv().layout, kLargeTokens);
    const SegmentPlace here = place(from, source, kLargeTokens);
    ASSERT_TRUE(a.channel->send(segment(1, bytes), here, noting(&outcomes)).ok());
    ASSERT_TRUE(until([&] { return b.events.placed.size() == 1; }));
    const auto& [placed, checksum] = b.events.placed[0];
    ASSERT_TRUE(checksum.ok()) << checksum.status().to_string();
    EXPECT_EQ(*checksum == placed.checksum, !zero_copy);
  }
}

// Around what one turn of the thread writes, alone on a lane and one behind the other; lent, but
// for what ends with a short run, and copied.
TEST_F(TcpChannelTest, BlocksToBlocksInTurns) {
  fakes::KvShape copied = kLarge;  // in runs of 8 KiB
  copied.block_tokens = 4;
  for (const fakes::KvShape& shape : {kLarge, copied}) in_turns(shape);
}

void TcpChannelTest::in_turns(const fakes::KvShape& shape) {
  Side a(io_, 1, {.lanes = 1, .queued_segments = 4}), b(io_, 2);
  join(io_, a, b);
  fakes::KvEngine from(shape), to(shape, 2);
  const auto source = from.allocate(512), target = to.allocate(512);
  from.fill(0, source, 0, 512, 7);
  // Of 4 KiB each: 256 are a turn.
  size_t placed = 0;
  for (const uint32_t tokens : {240u, 255u, 256u, 257u, 272u, 512u, 3u}) {
    for (const size_t segments : {size_t{1}, size_t{3}}) {
      b.events.where = [&](const SegmentHeader&) { return place(to, target, tokens); };
      std::vector<Status> outcomes;
      const uint64_t bytes = segment_bytes(from.kv().layout, tokens);
      for (uint32_t i = 0; i < segments; ++i) {
        const Status sent =
            a.channel->send(segment(i, bytes), place(from, source, tokens), noting(&outcomes));
        ASSERT_TRUE(sent.ok()) << sent.to_string();
      }
      placed += segments;
      ASSERT_TRUE(
          until([&] { return b.events.placed.size() == placed && outcomes.size() == segments; }));
      const auto& [header, checksum] = b.events.placed.back();
      ASSERT_TRUE(checksum.ok()) << checksum.status().to_string();
      EXPECT_EQ(*checksum, header.checksum);
      EXPECT_EQ(to.wrong(target, 0, tokens, 7), 0u);
    }
  }
}

TEST_F(TcpChannelTest, AHandoffLeavesALaneToOthers) {
  Side a(io_, 1, {.lanes = 3, .queued_segments = 1}), b(io_, 2);
  join(io_, a, b);
  fakes::KvEngine from(kLarge), to(kLarge, 2);
  const auto source = from.allocate(kLargeTokens), target = to.allocate(kLargeTokens);
  from.fill(0, source, 0, kLargeTokens, 7);
  b.events.where = [&](const SegmentHeader& header) -> std::variant<Otherwise, SegmentPlace> {
    if (header.handoff == handoff(2)) return Otherwise::kStage;
    return place(to, target, kLargeTokens);
  };
  std::vector<Status> outcomes;
  const uint64_t bytes = segment_bytes(from.kv().layout, kLargeTokens);
  const auto send = [&](uint32_t index) {
    return a.channel->send(segment(index, bytes), place(from, source, kLargeTokens),
                           noting(&outcomes));
  };
  ASSERT_TRUE(send(0).ok());
  EXPECT_FALSE(a.channel->full_for(handoff(1)));
  ASSERT_TRUE(send(1).ok());
  EXPECT_TRUE(a.channel->full_for(handoff(1)));
  EXPECT_EQ(send(2).code(), Code::kResourceExhausted);
  EXPECT_FALSE(a.channel->full_for(handoff(2)));
  EXPECT_FALSE(a.channel->full());
  auto staging = a.channel->acquire(100);
  ASSERT_TRUE(staging.ok() && *staging);
  fill((*staging)->bytes, 5);
  ASSERT_TRUE(
      a.channel->publish(segment(0, 100, 2), std::move(**staging), [](const Status&) {}).ok());
  EXPECT_TRUE(a.channel->full());
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1; }));
  EXPECT_FALSE(a.channel->full());
  EXPECT_TRUE(filled(b.events.payloads.front().bytes(), 5));
  EXPECT_TRUE(outcomes.empty());  // overtaken
  ASSERT_TRUE(until([&] { return !a.channel->full_for(handoff(1)); }));
  EXPECT_GE(a.events.stagings, 1);
  ASSERT_TRUE(until([&] { return b.events.placed.size() == 2; }));
  for (const auto& [header, checksum] : b.events.placed) {
    ASSERT_TRUE(checksum.ok());
    EXPECT_EQ(*checksum, header.checksum);
  }
}

// Also out of staging memory, of which several pieces may have been lent before the first is sent.
TEST_F(TcpChannelTest, AStagedHandoffLeavesALaneToOthers) {
  Side a(io_, 1, {.lanes = 2, .queued_segments = 2}, 8), b(io_, 2);
  join(io_, a, b);
  std::vector<Staging> lent;
  for (uint32_t i = 0; i < 5; ++i) {
    auto staging = a.channel->acquire(4096);
    ASSERT_TRUE(staging.ok() && *staging);
    fill((*staging)->bytes, i);
    lent.push_back(std::move(**staging));
  }
  std::vector<Status> outcomes;
  for (uint32_t i = 0; i < 5; ++i)
    ASSERT_TRUE(a.channel->publish(segment(i, 4096), std::move(lent[i]), noting(&outcomes)).ok());
  EXPECT_TRUE(a.channel->full_for(handoff(1)));
  EXPECT_FALSE(a.channel->full_for(handoff(2)));
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 5 && outcomes.size() == 5; }));
  for (uint32_t i = 0; i < 5; ++i) {  // by one lane: in order
    EXPECT_EQ(b.events.headers[i].segment, i);
    EXPECT_TRUE(filled(b.events.payloads[i].bytes(), i));
  }
  EXPECT_GE(a.events.stagings, 1);
  EXPECT_FALSE(a.channel->full_for(handoff(1)));
}

TEST_F(TcpChannelTest, WhatNobodyWantsIsReadAndForgotten) {
  Side a(io_, 1, {.lanes = 1}), b(io_, 2);
  join(io_, a, b);
  b.events.where = [](const SegmentHeader& header) -> std::variant<Otherwise, SegmentPlace> {
    return header.segment == 1 ? Otherwise::kDrop : Otherwise::kStage;
  };
  std::vector<Status> outcomes;
  publish(a, segment(1, 4096), &outcomes);
  publish(a, segment(2, 10), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1; }));
  EXPECT_EQ(b.events.headers[0].segment, 2u);
}

// The receiving side has read nothing yet, so that the segment cannot have left whole.
TEST_F(TcpChannelTest, WhatIsForgottenIsReadNoMoreAndItsRestIsNotTakenForAnything) {
  Side a(io_, 1, {.lanes = 1}), b(io_, 2);
  join(io_, a, b);
  fakes::KvEngine from(kLarge);
  const auto source = from.allocate(kLargeTokens);
  from.fill(0, source, 0, kLargeTokens, 5);
  std::vector<Status> large, queued, other;
  const uint64_t bytes = segment_bytes(from.kv().layout, kLargeTokens);
  ASSERT_TRUE(
      a.channel->send(segment(1, bytes, 1), place(from, source, kLargeTokens), noting(&large))
          .ok());
  publish(a, segment(2, 100, 1), &queued);
  // b begins to read when a has filled the connection; there a forgets, in the middle.
  bool forgotten = false;
  b.events.where = [&](const SegmentHeader&) {
    if (!std::exchange(forgotten, true)) {
      a.channel->forget(handoff(1));
      EXPECT_TRUE(large.empty() && queued.empty());  // not inside the call
      from.fill(0, source, 0, kLargeTokens, 6);      // the blocks are somebody else's now
    }
    return Otherwise::kStage;
  };
  ASSERT_TRUE(until([&] { return large.size() == 1 && queued.size() == 1; }));
  EXPECT_EQ(large[0].code(), Code::kCancelled);
  EXPECT_EQ(queued[0].code(), Code::kCancelled);
  publish(a, segment(3, 100, 2), &other);  // the channel lives on
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1; }));
  EXPECT_EQ(b.events.headers[0].segment, 3u);
  EXPECT_TRUE(filled(b.events.payloads[0].bytes(), 3));
  EXPECT_TRUE(b.events.closes.empty());
}

TEST_F(TcpChannelTest, AForgottenPlaceIsNotWrittenAnyMore) {
  Side a(io_, 1, {.lanes = 1}), b(io_, 2);
  join(io_, a, b);
  fakes::KvEngine from(kLarge), to(kLarge, 2);
  const auto source = from.allocate(kLargeTokens), target = to.allocate(kLargeTokens);
  from.fill(0, source, 0, kLargeTokens, 5);
  const uint64_t bytes = segment_bytes(from.kv().layout, kLargeTokens);
  bool placed = false;
  b.events.where = [&](const SegmentHeader& header) -> std::variant<Otherwise, SegmentPlace> {
    if (header.segment != 1) return Otherwise::kStage;
    placed = true;
    return place(to, target, kLargeTokens);
  };
  std::vector<Status> outcomes, other;
  ASSERT_TRUE(
      a.channel->send(segment(1, bytes, 1), place(from, source, kLargeTokens), noting(&outcomes))
          .ok());
  ASSERT_TRUE(until([&] { return placed; }));
  ASSERT_TRUE(b.events.placed.empty());
  b.channel->forget(handoff(1));
  EXPECT_TRUE(b.events.placed.empty());    // not inside the call
  to.fill(0, target, 0, kLargeTokens, 7);  // the blocks are somebody else's now
  ASSERT_TRUE(until([&] { return b.events.placed.size() == 1; }));
  EXPECT_EQ(b.events.placed[0].second.status().code(), Code::kCancelled);
  publish(a, segment(2, 100, 2), &other);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 1 && outcomes.size() == 1; }));
  EXPECT_TRUE(outcomes[0].ok());
  EXPECT_EQ(to.wrong(target, 0, kLargeTokens, 7), 0u);
  EXPECT_EQ(b.events.placed.size(), 1u);
}

TEST_F(TcpChannelTest, AChangedByteOnTheWayDoesNotVerify) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  fakes::KvEngine from({}), to({}, 2);
  const auto source = from.allocate(64), target = to.allocate(64);
  from.fill(0, source, 0, 64, 5);
  const auto slot = *a.retained->allocate();
  const SegmentPlace there = place(to, target, 64);
  const uint64_t bytes = segment_bytes(from.kv().layout, 64);
  SegmentHeader header = segment(1, bytes);
  const SegmentPlace here = place(from, source, 64);
  header.checksum = gather(here.blocks, here.order, here.seed, slot.bytes().data());
  slot.bytes()[1234] ^= std::byte{4};
  b.events.where = [&](const SegmentHeader&) { return there; };
  std::vector<Status> outcomes;
  ASSERT_TRUE(a.channel->publish(header, slot, 0, noting(&outcomes)).ok());
  ASSERT_TRUE(until([&] { return b.events.placed.size() == 1; }));
  const auto& [placed, checksum] = b.events.placed[0];
  EXPECT_EQ(placed.checksum, header.checksum);
  ASSERT_TRUE(checksum.ok());
  EXPECT_NE(*checksum, header.checksum);
}

TEST_F(TcpChannelTest, NoMoreIsQueuedThanAllowed) {
  Side a(io_, 1, {.lanes = 2, .queued_segments = 1}), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  publish(a, segment(1, 100, 1), &outcomes);
  publish(a, segment(2, 100, 2), &outcomes);
  EXPECT_FALSE(a.channel->acquire(100)->has_value());
  const Status full =
      a.channel->publish(segment(3, 10, 3), *a.retained->allocate(), 0, [](const Status&) {});
  EXPECT_EQ(full.code(), Code::kResourceExhausted);
  ASSERT_TRUE(until([&] { return a.events.stagings >= 1; }));
  publish(a, segment(3, 100), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 3; }));
}

TEST_F(TcpChannelTest, WhatIsStagedIsBoundedAndGoesOnWhenItWasConsumed) {
  Side a(io_, 1, {.lanes = 1, .queued_segments = 8}, 8), b(io_, 2, {.staged_bytes = 10'000});
  join(io_, a, b);
  std::vector<Status> outcomes;
  for (uint32_t i = 0; i < 6; ++i) publish(a, segment(i, 4096), &outcomes);
  ASSERT_TRUE(until([&] { return b.events.payloads.size() == 2; }));
  run_for(io_, 20ms);
  ASSERT_EQ(b.events.payloads.size(), 2u);  // a third would be 12,288 bytes
  for (uint32_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(until([&] { return !b.events.payloads.empty(); }));
    EXPECT_EQ(b.events.headers[i].segment, i);
    EXPECT_TRUE(filled(b.events.payloads.front().bytes(), i));
    b.events.payloads.pop_front();
  }
}

TEST_F(TcpChannelTest, CloseTellsEverybodyOnceAndTheOwnerLast) {
  Side a(io_, 1, {.lanes = 1, .queued_segments = 4}), b(io_, 2);
  join(io_, a, b);
  fakes::KvEngine from(kLarge), to(kLarge, 2);
  const auto source = from.allocate(kLargeTokens), target = to.allocate(kLargeTokens);
  const uint64_t bytes = segment_bytes(from.kv().layout, kLargeTokens);
  bool placed = false;
  b.events.where = [&](const SegmentHeader&) {
    placed = true;
    return place(to, target, kLargeTokens);
  };
  std::vector<Status> outcomes;
  ASSERT_TRUE(
      a.channel->send(segment(1, bytes), place(from, source, kLargeTokens), noting(&outcomes))
          .ok());
  ASSERT_TRUE(until([&] { return placed; }));
  publish(a, segment(2, 64), &outcomes);
  const auto retained = *a.retained->allocate();
  ASSERT_TRUE(a.channel->publish(segment(3, 64), retained, 0, noting(&outcomes)).ok());
  a.channel->close(Status(Code::kUnavailable, "the node went"));
  a.channel->close(Status(Code::kInternal, "again"));
  a.channel->forget(handoff(1));
  EXPECT_TRUE(outcomes.empty());
  ASSERT_TRUE(until([&] { return !a.events.closes.empty() && !b.events.closes.empty(); }));
  ASSERT_EQ(outcomes.size(), 3u);
  for (const Status& outcome : outcomes) EXPECT_EQ(outcome.code(), Code::kCancelled);
  ASSERT_EQ(b.events.placed.size(), 1u);
  EXPECT_EQ(b.events.placed[0].second.status().code(), Code::kCancelled);
  run_for(io_, 20ms);
  ASSERT_EQ(a.events.closes.size(), 1u);
  EXPECT_EQ(a.events.closes[0].message(), "the node went");
  ASSERT_EQ(b.events.closes.size(), 1u);
  EXPECT_EQ(b.events.closes[0].code(), Code::kUnavailable);
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
}

TEST_F(TcpChannelTest, AnOwnerThatLetsGoIsNotCalled) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  std::vector<Status> outcomes;
  publish(a, segment(1, 64), &outcomes);
  a.channel.reset();
  EXPECT_TRUE(outcomes.empty());
  ASSERT_TRUE(until([&] { return outcomes.size() == 1 && !b.events.closes.empty(); }));
  EXPECT_EQ(outcomes[0].code(), Code::kCancelled);
  EXPECT_TRUE(a.events.closes.empty());
}

TEST_F(TcpChannelTest, WhatCannotBePublishedIsTheCallersMistake) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  const auto never = [](const Status&) { FAIL() << "was not published"; };
  EXPECT_EQ(a.channel->acquire(kTransitBytes + 1).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(a.channel->acquire(0).status().code(), Code::kInvalidArgument);
  auto slot = *a.retained->allocate();
  EXPECT_EQ(a.channel->publish(segment(1, kRetainedBytes), slot, 1, never).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(a.channel->publish(segment(1, 0), slot, 0, never).code(), Code::kInvalidArgument);
  a.channel->close(Status(Code::kCancelled, "enough"));
  EXPECT_EQ(a.channel->publish(segment(1, 10), slot, 0, never).code(), Code::kUnavailable);
  EXPECT_EQ(a.channel->acquire(10).status().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace baton::tcp
