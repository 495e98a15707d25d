// Of several connections between two nodes exactly one comes to be, whatever the order of events.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <random>
#include <thread>

#include "tests/transfer/control/test_node.h"

namespace baton::control {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using protocol::Heartbeat;
using protocol::Hello;
using protocol::Refuse;
using protocol::RefuseReason;
using Strings = std::vector<std::string>;

#if defined(BATON_SANITIZED)
constexpr int kRounds = 60;
#else
constexpr int kRounds = 300;
#endif

class RendezvousTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  static Hello hello_of(const std::string& node, uint64_t incarnation) {
    Hello hello = test_hello(incarnation);
    hello.node = node;
    return hello;
  }
  // Sort before and behind any node at 127.0.0.1.
  static Hello smaller(uint64_t incarnation) { return hello_of("0.smaller:1", incarnation); }
  static Hello larger(uint64_t incarnation) { return hello_of("larger:1", incarnation); }
  template <typename M>
  static bool is(const std::optional<protocol::Message>& message) {
    return message && std::holds_alternative<M>(*message);
  }
  static bool is_refusal(const std::optional<protocol::Message>& message, RefuseReason reason) {
    return is<Refuse>(message) && std::get<Refuse>(*message).reason == reason;
  }
  static ControlConfig advertises(const std::string& address, Duration dial_deadline = 2s) {
    ControlConfig config;
    config.advertise = address;
    config.dial_deadline = dial_deadline;
    return config;
  }
  // A raw connection that has said `hello` and was let in.
  RawPeer join(TestNode& node, const Hello& hello) {
    RawPeer raw = RawPeer::dial(io_, node.plane->address());
    const size_t before = node.up.size();
    raw.send(hello);
    EXPECT_TRUE(is<Hello>(raw.receive()));
    if (hello.node < node.plane->hello().node) raw.send(Heartbeat{1});
    EXPECT_TRUE(until([&] { return node.up.size() == before + 1; }));
    return raw;
  }

  boost::asio::io_context io_;
};

TEST_F(RendezvousTest, BothDialAtOnceManyTimes) {
  std::mt19937 random(20261123);
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    TestNode a(io_, 1), b(io_, 2);
    // Whoever is up speaks at once: nothing of it may be lost or doubled.
    a.when_up = [&](const auto& peer) { peer->send(numbered(100)); };
    b.when_up = [&](const auto& peer) { peer->send(numbered(200)); };
    const auto ours = a.connect(b.plane->address());
    const int head_start = std::uniform_int_distribution(0, 12)(random);
    for (int i = 0; i < head_start; ++i) {
      io_.restart();
      io_.poll_one();
    }
    const auto theirs = b.connect(a.plane->address());
    ASSERT_TRUE(until([&] {
      return ours->has_value() && theirs->has_value() && !a.messages.empty() && !b.messages.empty();
    }));
    ASSERT_TRUE((*ours)->ok()) << (*ours)->status().to_string();
    ASSERT_TRUE((*theirs)->ok()) << (*theirs)->status().to_string();
    EXPECT_EQ(***ours, a.peer());
    EXPECT_EQ(***theirs, b.peer());
    EXPECT_EQ(a.events, (Strings{"up", "message"}));
    EXPECT_EQ(b.events, (Strings{"up", "message"}));
    EXPECT_EQ(number_of(a.messages[0]), 200u);
    EXPECT_EQ(number_of(b.messages[0]), 100u);
    EXPECT_NE(a.peer()->dialled(), b.peer()->dialled());
    if (head_start == 0) {
      const bool a_smaller = a.plane->hello().node < b.plane->hello().node;
      EXPECT_EQ(a.peer()->dialled(), a_smaller);
    }
    EXPECT_TRUE(a.peer()->up() && b.peer()->up());
  }
}

TEST_F(RendezvousTest, BothDialAtOnceFromTwoThreads) {
  // Either thread may not run for long: that is no silence of its node, and no late answer.
  ControlConfig patient;
  patient.heartbeat_interval = kPatience;
  patient.dial_deadline = patient.hello_deadline = 2 * kPatience;
  for (int round = 0; round < kRounds / 6; ++round) {
    SCOPED_TRACE(round);
    boost::asio::io_context other;
    TestNode a(io_, 1, patient), b(other, 2, patient);
    a.when_up = [&](const auto& peer) { peer->send(numbered(100)); };
    b.when_up = [&](const auto& peer) { peer->send(numbered(200)); };
    // Each loop runs until both nodes have what they need: one may still need the other's.
    std::atomic<bool> a_has = false, b_has = false;
    const auto has = [&](TestNode& node, const TestNode::Connected& connected,
                         std::atomic<bool>& has) {
      if (connected && !node.messages.empty()) has = true;
      return a_has && b_has;
    };
    const HostPort to_a = a.plane->address();
    const auto ours = a.connect(b.plane->address());
    std::shared_ptr<TestNode::Connected> theirs;
    std::thread thread([&] {
      theirs = b.connect(to_a);
      EXPECT_TRUE(run_until(other, [&] { return has(b, *theirs, b_has); }));
    });
    EXPECT_TRUE(until([&] { return has(a, *ours, a_has); }));
    thread.join();
    ASSERT_TRUE(ours->has_value() && theirs->has_value());
    EXPECT_TRUE((*ours)->ok()) << (*ours)->status().to_string();
    EXPECT_TRUE((*theirs)->ok()) << (*theirs)->status().to_string();
    EXPECT_EQ(a.events, (Strings{"up", "message"}));
    EXPECT_EQ(b.events, (Strings{"up", "message"}));
    ASSERT_TRUE(a.peer() && b.peer());
    EXPECT_NE(a.peer()->dialled(), b.peer()->dialled());
  }
}

TEST_F(RendezvousTest, TheDeciderHoldsTheOtherConnectionUntilItsOwnDialIsThrough) {
  TestNode node(io_, 1, advertises("127.0.0.1:1"));  // sorts before the listener's port
  RawListener listener(io_);
  const Hello theirs = hello_of(listener.address().to_string(), 2);
  const auto connected = node.connect(listener.address());
  RawPeer dialled_by_node = listener.accept();
  RawPeer dialled_by_raw = RawPeer::dial(io_, node.plane->address());
  dialled_by_raw.send(theirs);
  EXPECT_TRUE(is<Hello>(dialled_by_raw.receive()));
  run_for(io_, 30ms);
  EXPECT_TRUE(dialled_by_raw.received_by_now().empty());  // held: not confirmed
  EXPECT_EQ(node.events, Strings{});
  dialled_by_node.send(theirs);
  EXPECT_TRUE(is<Hello>(dialled_by_node.receive()));
  EXPECT_TRUE(is<Heartbeat>(dialled_by_node.receive()));
  EXPECT_TRUE(is_refusal(dialled_by_raw.receive(), RefuseReason::kDuplicate));
  EXPECT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_TRUE((*connected)->ok() && node.peer()->dialled());
  EXPECT_EQ(node.events, Strings{"up"});
}

TEST_F(RendezvousTest, TheHeldConnectionStaysWhereTheDeciderCannotDial) {
  TestNode node(io_, 1, advertises("127.0.0.1:1", 400ms));
  RawListener listener(io_);
  const auto connected = node.connect(listener.address());
  RawPeer unanswered = listener.accept();
  RawPeer raw = RawPeer::dial(io_, node.plane->address());
  raw.send(hello_of(listener.address().to_string(), 2));
  EXPECT_TRUE(is<Hello>(raw.receive()));
  EXPECT_TRUE(is<Heartbeat>(raw.receive()));
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  ASSERT_TRUE((*connected)->ok()) << (*connected)->status().to_string();
  EXPECT_FALSE(node.peer()->dialled());
  EXPECT_EQ(node.events, Strings{"up"});
}

TEST_F(RendezvousTest, TheFollowerTakesTheConnectionThatIsConfirmed) {
  TestNode node(io_, 1);
  RawListener listener(io_);
  const auto connected = node.connect(listener.address());
  RawPeer refused = listener.accept();
  refused.send(smaller(2));
  EXPECT_TRUE(is<Hello>(refused.receive()));
  RawPeer stays = RawPeer::dial(io_, node.plane->address());
  stays.send(smaller(2));
  EXPECT_TRUE(is<Hello>(stays.receive()));
  run_for(io_, 30ms);
  EXPECT_EQ(node.events, Strings{});  // neither is confirmed
  refused.send(Refuse{{}, RefuseReason::kDuplicate, "another stays"});
  stays.send(numbered(5));  // whatever the decider says first confirms
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  ASSERT_TRUE((*connected)->ok()) << (*connected)->status().to_string();
  EXPECT_EQ(***connected, node.peer());
  EXPECT_FALSE(node.peer()->dialled());
  EXPECT_EQ(node.events, (Strings{"up", "message"}));
  EXPECT_TRUE(refused.closed());
}

TEST_F(RendezvousTest, AFollowerThatIsRefusedForAConnectionItDoesNotHaveDialsAgain) {
  TestNode node(io_, 1);
  RawListener listener(io_);
  const auto connected = node.connect(listener.address());
  RawPeer first = listener.accept();
  first.send(smaller(2));
  first.send(Refuse{{}, RefuseReason::kDuplicate, "the old one still stands here"});
  RawPeer second = listener.accept();
  second.send(smaller(2));
  second.send(Heartbeat{1});
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  ASSERT_TRUE((*connected)->ok()) << (*connected)->status().to_string();
  EXPECT_EQ(node.events, Strings{"up"});
}

TEST_F(RendezvousTest, ARedialThatIsDueWhenThePlaneStopsIsDropped) {
  TestNode node(io_, 1);
  RawListener listener(io_);
  const auto connected = node.connect(listener.address());
  RawPeer first = listener.accept();
  first.send(smaller(2));
  first.send(Refuse{{}, RefuseReason::kDuplicate, "the old one still stands here"});
  ASSERT_TRUE(until([&] { return first.ended_by_now(); }));
  // The loop is away until the redial is due; stop() then runs before the redial's handler, which
  // is no longer to be cancelled.
  boost::asio::post(io_, [&] {
    std::this_thread::sleep_for(60ms);
    boost::asio::post(io_, [&] { node.plane->stop(); });
  });
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_EQ((*connected)->status().code(), Code::kUnavailable);
  run_for(io_, 30ms);
  EXPECT_EQ(node.events, Strings{});
}

TEST_F(RendezvousTest, ANewLifeEndsTheOldOneFirstAndTheOldOneStaysOver) {
  for (const bool decides : {true, false}) {
    TestNode node(io_, 1);
    const auto life = [&](uint64_t i) { return decides ? larger(i) : smaller(i); };
    RawPeer old = join(node, life(10));
    RawPeer young = join(node, life(11));
    EXPECT_EQ(node.events, (Strings{"up", "down", "up"}));
    EXPECT_FALSE(node.up[0]->up());
    EXPECT_TRUE(node.up[1]->up());
    RawPeer ghost = RawPeer::dial(io_, node.plane->address());
    ghost.send(life(10));
    EXPECT_TRUE(is<Hello>(ghost.receive()));
    const auto answer = ghost.receive();
    ASSERT_TRUE(is_refusal(answer, RefuseReason::kIncarnation));
    EXPECT_THAT(std::get<Refuse>(*answer).text, ::testing::HasSubstr("10"));
    ghost.close();
    young.send(numbered(3));
    ASSERT_TRUE(until([&] { return node.messages.size() == 1; }));
    EXPECT_EQ(node.events, (Strings{"up", "down", "up", "message"}));
  }
}

TEST_F(RendezvousTest, ASecondConnectionOfTheSameLifeIsRefusedWhileTheFirstLives) {
  TestNode node(io_, 1, {.heartbeat_interval = 5s});
  RawPeer first = join(node, larger(2));
  EXPECT_TRUE(is<Heartbeat>(first.receive()));
  RawPeer second = RawPeer::dial(io_, node.plane->address());
  second.send(larger(2));
  EXPECT_TRUE(is<Hello>(second.receive()));
  EXPECT_TRUE(is_refusal(second.receive(), RefuseReason::kDuplicate));
  second.close();
  first.send(numbered(1));
  ASSERT_TRUE(until([&] { return node.messages.size() == 1; }));
  EXPECT_EQ(node.events, (Strings{"up", "message"}));
}

TEST_F(RendezvousTest, ASecondConnectionReplacesAStalledOne) {
  TestNode node(io_, 1, {.heartbeat_interval = 20ms});
  RawPeer first = join(node, larger(2));
  ASSERT_TRUE(until([&] { return node.count("stalled") == 1; }));
  RawPeer second = join(node, larger(2));
  EXPECT_EQ(Strings(node.events.begin(), node.events.begin() + 4),
            (Strings{"up", "stalled", "down", "up"}));
}

}  // namespace
}  // namespace baton::control
