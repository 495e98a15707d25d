// Peers that misbehave, fall silent, are stopped or die.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/transfer/child.h"
#include "tests/transfer/control/test_node.h"
#include "transfer/protocol/codec.h"

namespace baton::control {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using baton::testing::Child;
using protocol::Heartbeat;
using protocol::Hello;
using Strings = std::vector<std::string>;

class TroubleTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  static Hello hello_of(const std::string& node, uint64_t incarnation) {
    Hello hello = test_hello(incarnation);
    hello.node = node;
    return hello;
  }
  // A raw peer that was let in; it sorts behind the node, which so confirms it.
  RawPeer join(TestNode& node) {
    RawPeer raw = RawPeer::dial(io_, node.plane->address());
    raw.send(hello_of("larger:1", 2));
    EXPECT_TRUE(until([&] { return node.up.size() == 1; }));
    return raw;
  }
  static std::string bytes_of(const protocol::Message& message) {
    const auto frame = protocol::encode(message);
    return {reinterpret_cast<const char*>(frame->data()), frame->size()};
  }
  // The node says HELLO, closes within its deadline, and tells its owner nothing.
  void expect_closed(TestNode& node, RawPeer& raw) {
    const TimePoint start = now();
    EXPECT_TRUE(raw.receive().has_value());
    EXPECT_TRUE(raw.closed());
    EXPECT_LT(now() - start, kPatience);
    EXPECT_EQ(node.events, Strings{});
  }

  boost::asio::io_context io_;
};

TEST_F(TroubleTest, WhatIsNoHelloIsClosed) {
  const std::string hello = bytes_of(hello_of("larger:1", 2));
  std::string huge = bytes_of(Heartbeat{1});
  huge[7] = 0x7f;  // 2 GiB
  std::string large = bytes_of(Heartbeat{1});
  large[6] = 0x20;  // 2 MiB, which no stranger may send
  std::string bad_body = hello;
  bad_body[protocol::kFrameHeaderBytes + 2] = '\x7f';  // the node's length
  std::string bad_node = bytes_of(hello_of("no port", 2));
  std::string line_feed = bytes_of(hello_of("larger\n:1", 2));
  const std::vector<std::pair<const char*, std::string>> cases = {
      {"http", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"zeros", std::string(64, '\0')},
      {"huge", huge},
      {"large", large},
      {"bad body", bad_body},
      {"bad node", bad_node},
      {"line feed", line_feed},
      {"heartbeat first", bytes_of(Heartbeat{1})},
      {"message first", bytes_of(numbered(1))},
  };
  TestNode node(io_, 1, {.hello_deadline = 20s});
  for (const auto& [name, bytes] : cases) {
    SCOPED_TRACE(name);
    RawPeer raw = RawPeer::dial(io_, node.plane->address());
    raw.send_bytes(bytes);
    expect_closed(node, raw);
  }
}

TEST_F(TroubleTest, SilenceHalfAHelloAndDripsEndAtTheDeadline) {
  TestNode node(io_, 1, {.hello_deadline = 150ms});
  const std::string hello = bytes_of(hello_of("larger:1", 2));
  RawPeer silent = RawPeer::dial(io_, node.plane->address());
  expect_closed(node, silent);
  RawPeer half = RawPeer::dial(io_, node.plane->address());
  half.send_bytes(hello.substr(0, hello.size() / 2));
  expect_closed(node, half);
  // Drips keep no deadline from passing: a byte every 10 ms would take seconds.
  RawPeer drips = RawPeer::dial(io_, node.plane->address());
  ASSERT_TRUE(drips.receive());
  size_t sent = 0;
  bool closed = false;
  while (!closed && sent < hello.size() - 1) {
    drips.send_bytes(hello.substr(sent++, 1));
    run_for(io_, 10ms);
    closed = drips.ended_by_now();
  }
  EXPECT_TRUE(closed);
  EXPECT_EQ(node.events, Strings{});
  EXPECT_EQ(node.metrics.gauge("baton_control_connections", "").Value(), 0);
}

TEST_F(TroubleTest, GarbageOfAPeerThatIsUpEndsIt) {
  TestNode node(io_, 1);
  RawPeer raw = join(node);
  raw.send_bytes(std::string(64, 'x'));
  ASSERT_TRUE(until([&] { return node.count("down") == 1; }));
  EXPECT_EQ(node.downs[0].code(), Code::kProtocol);
  EXPECT_EQ(node.events, (Strings{"up", "down"}));
}

TEST_F(TroubleTest, ASecondHelloEndsThePeer) {
  TestNode node(io_, 1);
  RawPeer raw = join(node);
  raw.send(hello_of("larger:1", 2));
  ASSERT_TRUE(until([&] { return node.count("down") == 1; }));
  EXPECT_EQ(node.downs[0].code(), Code::kProtocol);
}

TEST_F(TroubleTest, SilenceIsToldOnceAndItsEndToo) {
  TestNode node(io_, 1, {.heartbeat_interval = 25ms});
  RawPeer raw = join(node);
  ASSERT_TRUE(until([&] { return node.count("stalled") == 1; }));
  EXPECT_TRUE(node.peer()->stalled());
  run_for(io_, 200ms);
  EXPECT_EQ(node.events, (Strings{"up", "stalled"}));
  EXPECT_GE(node.metrics.counter("baton_heartbeats_missed_total", "").Value(), 3);
  raw.send(numbered(4));  // any frame is a sign of life
  ASSERT_TRUE(until([&] { return node.messages.size() == 1; }));
  EXPECT_EQ(Strings(node.events.begin(), node.events.begin() + 4),
            (Strings{"up", "stalled", "resumed", "message"}));
  // The node has sent heartbeats all the while.
  size_t heartbeats = 0;
  for (const auto& message : raw.received_by_now()) {
    heartbeats += std::holds_alternative<Heartbeat>(message);
  }
  EXPECT_GE(heartbeats, 4u);
}

TEST_F(TroubleTest, TwoNodesKeepEachOtherAlive) {
  TestNode a(io_, 1, {.heartbeat_interval = 50ms}), b(io_, 2, {.heartbeat_interval = 50ms});
  const auto connected = a.connect(b.plane->address());
  ASSERT_TRUE(until([&] { return connected->has_value() && !b.up.empty(); }));
  run_for(io_, 600ms);
  EXPECT_EQ(a.events, Strings{"up"});
  EXPECT_EQ(b.events, Strings{"up"});
}

TEST_F(TroubleTest, ANodeThatDidNotRunDoesNotBlameItsPeer) {
  TestNode node(io_, 1, {.heartbeat_interval = 100ms});
  RawPeer raw = join(node);
  // The loop's thread is away for longer than the silence that stalls; the peer speaks meanwhile.
  std::this_thread::sleep_for(700ms);
  raw.send(Heartbeat{2});
  std::this_thread::sleep_for(100ms);
  run_for(io_, 100ms);
  EXPECT_EQ(node.events, Strings{"up"});
  // Nor for a silence that nobody can have heard: both were away.
  std::this_thread::sleep_for(700ms);
  run_for(io_, 100ms);
  EXPECT_EQ(node.events, Strings{"up"});
  ASSERT_TRUE(until([&] { return node.count("stalled") == 1; }));  // now it is the peer's
}

TEST_F(TroubleTest, AStoppedProcessIsNoticedAndComesBack) {
  TestNode node(io_, 1);
  Child child({BATON_TEST_PEER, "control", node.plane->address().to_string()});
  ASSERT_TRUE(until([&] { return node.count("up") == 1; }));
  child.signal(SIGSTOP);
  ASSERT_TRUE(until([&] { return node.count("stalled") == 1; }));
  child.signal(SIGCONT);
  ASSERT_TRUE(until([&] { return node.count("resumed") == 1; }));
  EXPECT_EQ(node.count("down"), 0u);
}

TEST_F(TroubleTest, AKilledProcessIsDown) {
  TestNode node(io_, 1);
  Child child({BATON_TEST_PEER, "control", node.plane->address().to_string()});
  ASSERT_TRUE(until([&] { return node.count("up") == 1; }));
  child.signal(SIGKILL);
  ASSERT_TRUE(until([&] { return node.count("down") == 1; }));
  EXPECT_EQ(node.downs[0].code(), Code::kUnavailable);
}

}  // namespace
}  // namespace baton::control
