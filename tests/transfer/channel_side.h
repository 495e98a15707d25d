// One node's end of channels with everything it tells its owner written down.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/transfer/loop.h"
#include "transfer/channel_endpoint.h"

namespace baton::testing {

inline constexpr size_t kTransitBytes = 4096;
inline constexpr size_t kRetainedBytes = 64 << 10;
inline constexpr uint64_t kNonce = 0x6e6f6e6365;  // plus the incarnation

inline std::shared_ptr<SlotPool> make_pool(size_t slot_bytes, size_t slots) {
  auto arena = Arena::create({.name = "test", .bytes = slot_bytes * slots});
  EXPECT_TRUE(arena.ok()) << arena.status().to_string();
  auto pool = SlotPool::create(std::move(*arena), slot_bytes);
  EXPECT_TRUE(pool.ok()) << pool.status().to_string();
  return *pool;
}

inline void fill(std::span<std::byte> bytes, uint32_t seed) {
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(seed + i * 7);
}
inline bool filled(std::span<const std::byte> bytes, uint32_t seed) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != static_cast<std::byte>(seed + i * 7)) return false;
  }
  return true;
}

inline HandoffAttempt handoff(uint8_t id) { return {HandoffId{{id}}, 1}; }
inline SegmentHeader segment(uint32_t index, uint64_t bytes, uint8_t id = 1) {
  return {handoff(id), index, bytes, {index * 1000ull}};
}

struct Events : ChannelEvents {
  std::variant<Otherwise, SegmentPlace> place(const SegmentHeader& header) override {
    EXPECT_TRUE(closes.empty());
    return where ? where(header) : Otherwise::kStage;
  }
  void on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) override {
    EXPECT_TRUE(closes.empty());
    placed.emplace_back(header, checksum);
  }
  void on_segment(const SegmentHeader& header, ReceivedBytes payload) override {
    EXPECT_TRUE(closes.empty());
    headers.push_back(header);
    payloads.push_back(std::move(payload));
    if (when_segment) when_segment();
  }
  void on_staging() override {
    EXPECT_TRUE(closes.empty());
    ++stagings;
    if (when_staging) when_staging();
  }
  void on_channel_closed(const Status& why) override { closes.push_back(why); }

  std::function<std::variant<Otherwise, SegmentPlace>(const SegmentHeader&)> where;
  std::vector<std::pair<SegmentHeader, Result<Checksum>>> placed;
  std::vector<SegmentHeader> headers;
  std::deque<ReceivedBytes> payloads;
  std::vector<Status> closes;
  std::function<void()> when_segment;
  std::function<void()> when_staging;
  int stagings = 0;
};

// A kind of channel fills in `endpoint`.
struct ChannelSide {
  explicit ChannelSide(uint64_t incarnation, size_t transit_slots = 4,
                       std::shared_ptr<ChannelSessions> sessions = nullptr)
      : incarnation{incarnation},
        sessions(std::move(sessions)),
        transit(make_pool(kTransitBytes, transit_slots)),
        retained(make_pool(kRetainedBytes, 4)) {}

  uint64_t nonce() const { return kNonce + incarnation.value; }
  ChannelIdentity identity() const { return {incarnation, nonce(), sessions}; }
  protocol::Hello hello() const {
    protocol::Hello hello;
    hello.node = "127.0.0.1:1";
    hello.incarnation = incarnation;
    endpoint->describe(hello);
    hello.channel_nonce = nonce();
    return hello;
  }

  using Opened = std::optional<Result<std::unique_ptr<Channel>>>;
  std::shared_ptr<Opened> open(const protocol::Hello& peer, bool dial, Events& to) {
    auto opened = std::make_shared<Opened>();
    endpoint->open(peer, dial, to, [opened](Result<std::unique_ptr<Channel>> channel) {
      EXPECT_FALSE(opened->has_value()) << "answered twice";
      opened->emplace(std::move(channel));
    });
    EXPECT_FALSE(opened->has_value()) << "answered inside the call";
    return opened;
  }

  Incarnation incarnation;
  std::shared_ptr<ChannelSessions> sessions;  // null: no token
  std::shared_ptr<SlotPool> transit;
  std::shared_ptr<SlotPool> retained;
  Events events;
  std::unique_ptr<ChannelEndpoint> endpoint;
  std::unique_ptr<Channel> channel;
};

// Opens the channel between two sides; `a` dials.
inline void join(boost::asio::io_context& io, ChannelSide& a, ChannelSide& b) {
  const auto ours = a.open(b.hello(), true, a.events);
  const auto theirs = b.open(a.hello(), false, b.events);
  ASSERT_TRUE(run_until(io, [&] { return ours->has_value() && theirs->has_value(); }));
  ASSERT_TRUE((*ours)->ok()) << (*ours)->status().to_string();
  ASSERT_TRUE((*theirs)->ok()) << (*theirs)->status().to_string();
  a.channel = std::move(***ours);
  b.channel = std::move(***theirs);
}

}  // namespace baton::testing
