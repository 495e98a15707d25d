#include "transfer/control/control_plane.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transfer/control/test_node.h"
#include "transfer/base/utf8.h"

namespace baton::control {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;

class ControlPlaneTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  // Connects a to b and waits for both.
  std::shared_ptr<Peer> join(TestNode& a, TestNode& b) {
    const auto connected = a.connect(b.plane->address());
    EXPECT_TRUE(until([&] { return connected->has_value() && !b.up.empty(); }));
    EXPECT_TRUE((*connected)->ok()) << (*connected)->status().to_string();
    return a.peer();
  }
  static double gauge(TestNode& node, const char* name) {
    return node.metrics.gauge(name, "").Value();
  }

  boost::asio::io_context io_;
};

TEST_F(ControlPlaneTest, BothSidesMeetAndSpeak) {
  TestNode a(io_, 1), b(io_, 2);
  const auto peer = join(a, b);
  EXPECT_EQ(peer->hello().node, b.plane->address().to_string());
  EXPECT_EQ(b.peer()->hello().incarnation.value, 1u);
  EXPECT_TRUE(peer->dialled());
  EXPECT_FALSE(b.peer()->dialled());
  EXPECT_EQ(gauge(a, "baton_control_connections"), 1);
  peer->send(numbered(7));
  b.peer()->send(numbered(8));
  ASSERT_TRUE(until([&] { return a.messages.size() == 1 && b.messages.size() == 1; }));
  EXPECT_EQ(number_of(a.messages[0]), 8u);
  EXPECT_EQ(number_of(b.messages[0]), 7u);
  peer->close(Status(Code::kCancelled, "enough"));
  EXPECT_FALSE(peer->up());
  EXPECT_EQ(a.count("down"), 0u);  // not inside the call
  ASSERT_TRUE(until([&] { return a.count("down") == 1 && b.count("down") == 1; }));
  EXPECT_EQ(a.downs[0].message(), "enough");
  EXPECT_EQ(gauge(a, "baton_control_connections"), 0);
  peer->send(numbered(9));  // dropped
}

TEST_F(ControlPlaneTest, LargeAndManyMessagesArriveInOrder) {
  TestNode a(io_, 1), b(io_, 2);
  const auto peer = join(a, b);
  protocol::Fetch large{{HandoffId{{9}}, 1}, 60'000 * 64, 0, {}, 1000};
  large.keys.resize(60'000);  // 1.9 MB
  for (uint32_t i = 1; i <= 500; ++i) {
    peer->send(numbered(i));
    if (i % 100 == 0) peer->send(large);
  }
  ASSERT_TRUE(until([&] { return b.messages.size() == 505; }));
  uint32_t expected = 1;
  for (const auto& message : b.messages) {
    if (std::holds_alternative<protocol::Fetch>(message)) {
      EXPECT_EQ(std::get<protocol::Fetch>(message).keys.size(), 60'000u);
    } else {
      EXPECT_EQ(number_of(message), expected++);
    }
  }
}

TEST_F(ControlPlaneTest, IPv6) {
  TestNode a(io_, 1, {.listen = {"::1", 0}}), b(io_, 2, {.listen = {"::1", 0}});
  const auto peer = join(a, b);
  EXPECT_THAT(peer->hello().node, ::testing::StartsWith("[::1]:"));
}

TEST_F(ControlPlaneTest, AllWhoConnectAtOnceShareOneConnection) {
  TestNode a(io_, 1), b(io_, 2);
  std::vector<std::shared_ptr<TestNode::Connected>> all;
  for (int i = 0; i < 20; ++i) all.push_back(a.connect(b.plane->address()));
  ASSERT_TRUE(until([&] { return all.back()->has_value(); }));
  const auto later = a.connect(b.plane->address());
  ASSERT_TRUE(until([&] { return later->has_value(); }));
  for (const auto& one : all) {
    ASSERT_TRUE(one->has_value() && (*one)->ok());
    EXPECT_EQ(***one, a.peer());
  }
  EXPECT_EQ(***later, a.peer());
  ASSERT_TRUE(until([&] { return !b.up.empty(); }));
  EXPECT_EQ(a.events, Strings{"up"});
  EXPECT_EQ(b.events, Strings{"up"});
}

TEST_F(ControlPlaneTest, TwoSpellingsOfOnePeerEndInOnePeer) {
  for (const bool at_once : {true, false}) {
    for (const bool other_way : {true, false}) {
      SCOPED_TRACE(at_once);
      TestNode a(io_, 1), b(io_, 2);
      TestNode& from = other_way ? b : a;
      TestNode& to = other_way ? a : b;
      const HostPort address = to.plane->address();
      const auto one = from.connect(address);
      if (!at_once) {
        ASSERT_TRUE(until([&] { return one->has_value(); }));
      }
      const auto two = from.connect({"localhost", address.port});
      ASSERT_TRUE(until([&] { return one->has_value() && two->has_value() && !to.up.empty(); }));
      ASSERT_TRUE((*one)->ok()) << (*one)->status().to_string();
      ASSERT_TRUE((*two)->ok()) << (*two)->status().to_string();
      EXPECT_EQ(***one, ***two);
      const auto again = from.connect({"localhost", address.port});
      ASSERT_TRUE(until([&] { return again->has_value(); }));
      EXPECT_EQ(***again, ***one);
      EXPECT_EQ(from.events, Strings{"up"});
      EXPECT_EQ(to.events, Strings{"up"});
    }
  }
}

TEST_F(ControlPlaneTest, WhoDoesNotAgreeIsRefusedNamingBothValues) {
  for (const bool other_way : {true, false}) {
    TestNode a(io_, 1);
    TestNode b(io_, 2, {}, [](protocol::Hello& hello) { hello.chunk_tokens = 256; });
    TestNode& from = other_way ? b : a;
    TestNode& to = other_way ? a : b;
    const auto connected = from.connect(to.plane->address());
    ASSERT_TRUE(until([&] { return connected->has_value(); }));
    EXPECT_EQ((*connected)->status().code(), Code::kRefused);
    EXPECT_THAT((*connected)->status().message(), AllOf(HasSubstr("256"), HasSubstr("64")));
    EXPECT_EQ(a.events, Strings{});
    EXPECT_EQ(b.events, Strings{});
  }
}

TEST_F(ControlPlaneTest, ARefusalsTextEndsWithAWholeCharacter) {
  for (const size_t before : {0, 1}) {  // of the two the bound cuts one's character
    TestNode node(io_, 1);
    RawPeer raw = RawPeer::dial(io_, node.plane->address());
    protocol::Hello hello = test_hello(2);
    hello.node = "larger:1";
    hello.fingerprint.model = std::string(before, 'm');
    while (hello.fingerprint.model.size() + 2 <= protocol::kMaxText)
      hello.fingerprint.model += "\u00e9";
    raw.send(hello);
    ASSERT_TRUE(raw.receive());  // its HELLO
    const auto refusal = raw.receive();
    ASSERT_TRUE(refusal && std::holds_alternative<protocol::Refuse>(*refusal));
    const std::string& text = std::get<protocol::Refuse>(*refusal).text;
    EXPECT_EQ(find_invalid_utf8(text), std::nullopt) << text;
    EXPECT_GE(text.size(), protocol::kMaxText - 1);
  }
}

TEST_F(ControlPlaneTest, ANodeDoesNotDialItself) {
  TestNode a(io_, 1);
  const auto connected = a.connect(a.plane->address());
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_EQ((*connected)->status().code(), Code::kRefused);
  EXPECT_THAT((*connected)->status().message(), HasSubstr("itself"));
  EXPECT_EQ(a.events, Strings{});
}

TEST_F(ControlPlaneTest, NobodyThere) {
  HostPort nobody;
  {
    TestNode gone(io_, 2);
    nobody = gone.plane->address();
  }
  TestNode a(io_, 1);
  const auto closed_port = a.connect(nobody);
  const auto no_such_name = a.connect({"no-such-host.invalid", 1});
  ASSERT_TRUE(until([&] { return closed_port->has_value() && no_such_name->has_value(); }));
  EXPECT_EQ((*closed_port)->status().code(), Code::kUnavailable);
  EXPECT_THAT((*closed_port)->status().message(), HasSubstr(nobody.to_string()));
  EXPECT_THAT((*no_such_name)->status().code(),
              ::testing::AnyOf(Code::kUnavailable, Code::kDeadlineExceeded));
}

TEST_F(ControlPlaneTest, AListenerThatSaysNothingIsGivenUpAtTheDeadline) {
  TestNode a(io_, 1, {.dial_deadline = 200ms});
  RawListener silent(io_);
  const auto connected = a.connect(silent.address());
  RawPeer raw = silent.accept();
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_EQ((*connected)->status().code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(std::holds_alternative<protocol::Hello>(*raw.receive()));
  EXPECT_TRUE(raw.closed());
}

TEST_F(ControlPlaneTest, APeerThatTakesNothingIsClosedAtTheBound) {
  TestNode a(io_, 1, {.max_queued_bytes = 8u << 20});
  RawListener deaf(io_);
  const auto connected = a.connect(deaf.address());
  RawPeer raw = deaf.accept();
  protocol::Hello hello = test_hello(2);
  hello.node = deaf.address().to_string();
  raw.send(hello);
  raw.send(protocol::Heartbeat{1});
  ASSERT_TRUE(until([&] { return connected->has_value() && (*connected)->ok(); }));
  protocol::Fetch large{{HandoffId{{9}}, 1}, 60'000 * 64, 0, {}, 1000};
  large.keys.resize(60'000);
  for (int i = 0; i < 20 && a.peer()->up(); ++i) a.peer()->send(large);
  EXPECT_FALSE(a.peer()->up());
  ASSERT_TRUE(until([&] { return a.count("down") == 1; }));
  EXPECT_EQ(a.downs[0].code(), Code::kResourceExhausted);
}

TEST_F(ControlPlaneTest, StopEndsEverythingOnce) {
  TestNode a(io_, 1), b(io_, 2);
  join(a, b);
  RawListener silent(io_);
  const auto pending = a.connect(silent.address());
  a.plane->stop();
  a.plane->stop();
  EXPECT_EQ(a.count("down"), 0u);
  const auto late = a.connect(b.plane->address());
  ASSERT_TRUE(until([&] {
    return a.count("down") == 1 && b.count("down") == 1 && pending->has_value() &&
           late->has_value();
  }));
  EXPECT_EQ((*pending)->status().code(), Code::kUnavailable);
  EXPECT_EQ((*late)->status().code(), Code::kUnavailable);
  EXPECT_EQ(a.events, (Strings{"up", "down"}));
}

TEST_F(ControlPlaneTest, NothingIsCalledOnceThePlaneIsGone) {
  TestNode b(io_, 2);
  std::shared_ptr<Peer> kept;
  {
    TestNode a(io_, 1);
    kept = join(a, b);
    a.plane->stop();
  }
  kept->send(numbered(1));
  kept->close(Status(Code::kCancelled, "late"));
  EXPECT_FALSE(kept->up());
  ASSERT_TRUE(until([&] { return b.count("down") == 1; }));
}

TEST_F(ControlPlaneTest, NoMoreConnectionsThanAllowed) {
  TestNode a(io_, 1, {.hello_deadline = 30s, .max_connections = 2});
  RawPeer one = RawPeer::dial(io_, a.plane->address());
  ASSERT_TRUE(one.receive());  // its HELLO
  RawPeer two = RawPeer::dial(io_, a.plane->address());
  ASSERT_TRUE(two.receive());
  RawPeer three = RawPeer::dial(io_, a.plane->address());
  EXPECT_TRUE(three.closed());
  one.close();
  ASSERT_TRUE(until([&] {  // room again
    RawPeer four = RawPeer::dial(io_, a.plane->address());
    return four.receive().has_value();
  }));
}

TEST(ControlPlane, ItsConfigurationIsChecked) {
  boost::asio::io_context io;
  TestNode a(io, 1);
  Metrics metrics;
  const auto create = [&](ControlConfig config) {
    return ControlPlane::create(io, std::move(config), test_hello(1), a, metrics).status();
  };
  ControlConfig in_use;
  in_use.listen = a.plane->address();
  const Status taken = create(in_use);
  EXPECT_EQ(taken.code(), Code::kInternal);
  EXPECT_THAT(taken.message(), HasSubstr(a.plane->address().to_string()));
  ControlConfig config;
  config.listen = {"0.0.0.0", 0};
  EXPECT_EQ(create(config).code(), Code::kInvalidArgument);
  config.advertise = "127.0.0.1:1";
  EXPECT_TRUE(create(config).ok());
  config.heartbeats_missed = 0;
  EXPECT_EQ(create(config).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton::control
