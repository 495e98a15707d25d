#include "transfer/tcp/tcp_endpoint.h"

#include <gmock/gmock.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <random>

#include "tests/transfer/tcp/test_side.h"
#include "transfer/tcp/records.h"

namespace baton::tcp {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;
using Socket = boost::asio::ip::tcp::socket;

constexpr uint64_t kRaw = 77;

class TcpEndpointTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  // A connection that says whatever the test wants.
  Socket raw(const Side& side) {
    Socket socket(io_);
    socket.connect({boost::asio::ip::make_address("127.0.0.1"), side.port});
    socket.non_blocking(true);
    return socket;
  }
  static Greeting greeting_to(const Side& side) {
    return {.nonce = side.nonce(), .from = {kRaw}, .to = side.incarnation, .opening = 1};
  }
  static protocol::Hello raw_hello() {
    protocol::Hello hello;
    hello.node = "127.0.0.1:1";
    hello.incarnation = {kRaw};
    hello.channel_nonce = 5;
    hello.tcp_port = 1;
    return hello;
  }
  static void say(Socket& socket, const Greeting& greeting) {
    boost::asio::write(socket, boost::asio::buffer(encode(greeting)));
  }
  // Whether the peer has closed it; what it said before is in `said`.
  static bool closed(Socket& socket, std::string* said = nullptr) {
    while (true) {
      char bytes[256];
      boost::system::error_code error;
      const size_t got = socket.read_some(boost::asio::buffer(bytes), error);
      if (error == boost::asio::error::would_block) return false;
      if (error) return true;
      if (said != nullptr) said->append(bytes, got);
    }
  }
  boost::asio::io_context io_;
};

TEST_F(TcpEndpointTest, EitherSideMayBeFirst) {
  for (const bool dialler_first : {true, false}) {
    Side a(io_, 1), b(io_, 2);
    std::shared_ptr<Side::Opened> ours, theirs;
    if (dialler_first) ours = a.open(b.hello(), true, a.events);
    if (dialler_first) run_for(io_, 20ms);
    theirs = b.open(a.hello(), false, b.events);
    if (!dialler_first) run_for(io_, 20ms);
    if (!dialler_first) ours = a.open(b.hello(), true, a.events);
    ASSERT_TRUE(until([&] { return ours->has_value() && theirs->has_value(); }));
    EXPECT_TRUE((*ours)->ok()) << (*ours)->status().to_string();
    EXPECT_TRUE((*theirs)->ok()) << (*theirs)->status().to_string();
  }
}

TEST_F(TcpEndpointTest, AWrongNonceOrLifeIsRefused) {
  Side a(io_, 1), b(io_, 2);
  protocol::Hello wrong_nonce = b.hello();
  wrong_nonce.channel_nonce ^= 1;
  protocol::Hello wrong_life = b.hello();
  wrong_life.incarnation.value ^= 1;
  for (const protocol::Hello& hello : {wrong_nonce, wrong_life}) {
    const auto opened = a.open(hello, true, a.events);
    ASSERT_TRUE(until([&] { return opened->has_value(); }));
    EXPECT_EQ((*opened)->status().code(), Code::kRefused) << (*opened)->status().to_string();
  }
}

// As after a control connection that died before the peer opened its end.
TEST_F(TcpEndpointTest, WhatItsDiallerGaveUpIsNotTakenForTheNextOne) {
  Side a(io_, 1), b(io_, 2);
  Events gone;
  const auto given_up = a.open(b.hello(), true, gone);
  run_for(io_, 20ms);  // its lanes wait at b
  a.endpoint->give_up(gone);
  ASSERT_TRUE(until([&] { return given_up->has_value(); }));
  EXPECT_EQ((*given_up)->status().code(), Code::kCancelled);
  const auto theirs = b.open(a.hello(), false, b.events);
  run_for(io_, 20ms);
  EXPECT_FALSE(theirs->has_value());
  const auto ours = a.open(b.hello(), true, a.events);
  ASSERT_TRUE(until([&] { return ours->has_value() && theirs->has_value(); }));
  EXPECT_TRUE((*ours)->ok()) << (*ours)->status().to_string();
  EXPECT_TRUE((*theirs)->ok()) << (*theirs)->status().to_string();
}

TEST_F(TcpEndpointTest, NobodyThereAndNobodyOpening) {
  Side a(io_, 1, {.open_deadline = 100ms}), b(io_, 2, {.open_deadline = 100ms});
  protocol::Hello nobody = b.hello();
  nobody.tcp_port = 1;
  const auto refused = a.open(nobody, true, a.events);
  const auto silent = a.open(b.hello(), true, a.events);      // b does not open
  const auto waiting = b.open(raw_hello(), false, b.events);  // nobody dials
  protocol::Hello none = b.hello();
  none.tcp_port = 0;
  const auto without = a.open(none, true, a.events);
  ASSERT_TRUE(until([&] {
    return refused->has_value() && silent->has_value() && waiting->has_value() &&
           without->has_value();
  }));
  EXPECT_EQ((*refused)->status().code(), Code::kUnavailable);
  EXPECT_NE((*silent)->status().code(), Code::kOk);
  EXPECT_EQ((*waiting)->status().code(), Code::kDeadlineExceeded);
  EXPECT_THAT((*without)->status().message(), HasSubstr("has no port for it"));
}

TEST_F(TcpEndpointTest, GarbageSilenceAndHalfALaneAreClosed) {
  Side a(io_, 1, {.open_deadline = 200ms});
  Socket garbage = raw(a), silent = raw(a), half = raw(a), lonely = raw(a);
  std::mt19937_64 random(3);
  GreetingBytes bytes;
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  boost::asio::write(garbage, boost::asio::buffer(bytes));
  boost::asio::write(half, boost::asio::buffer(encode(greeting_to(a)), 50));
  Greeting one_of_two = greeting_to(a);
  one_of_two.lanes = 2;
  say(lonely, one_of_two);
  const auto opened = a.open(raw_hello(), false, a.events);
  ASSERT_TRUE(until([&] { return closed(garbage) && closed(silent) && closed(half); }));
  ASSERT_TRUE(until([&] { return closed(lonely) && opened->has_value(); }));
  EXPECT_EQ((*opened)->status().code(), Code::kDeadlineExceeded);
}

TEST_F(TcpEndpointTest, TheSameLaneTwiceIsRefused) {
  Side a(io_, 1);
  Socket first = raw(a), second = raw(a);
  Greeting one_of_two = greeting_to(a);
  one_of_two.lanes = 2;
  say(first, one_of_two);
  run_for(io_, 20ms);
  say(second, one_of_two);
  ASSERT_TRUE(until([&] { return closed(second); }));
  EXPECT_FALSE(closed(first));
}

// Opens a channel to a raw peer; returns its only lane.
class TcpPeerTest : public TcpEndpointTest {
 protected:
  Socket open(Side& side) {
    Socket socket = raw(side);
    say(socket, greeting_to(side));
    const auto opened = side.open(raw_hello(), false, side.events);
    EXPECT_TRUE(until([&] { return opened->has_value(); }));
    EXPECT_TRUE((*opened)->ok()) << (*opened)->status().to_string();
    side.channel = std::move(**opened).value();
    GreetingBytes bytes;
    socket.non_blocking(false);
    boost::asio::read(socket, boost::asio::buffer(bytes));
    const auto greeting = decode_greeting(bytes);
    EXPECT_TRUE(greeting.ok()) << greeting.status().to_string();
    EXPECT_EQ(greeting->nonce, raw_hello().channel_nonce);
    EXPECT_EQ(greeting->to.value, kRaw);
    EXPECT_EQ(greeting->opening, 1u);
    return socket;
  }
};

TEST_F(TcpPeerTest, ASegmentMayComeInAnyPieces) {
  Side a(io_, 1);
  Socket lane = open(a);
  std::vector<std::byte> payload(3000);
  fill(payload, 4);
  std::vector<std::byte> stream;
  const auto append = [&](const auto& bytes) {
    stream.insert(stream.end(), bytes.begin(), bytes.end());
  };
  for (uint32_t i = 0; i < 2; ++i) {
    append(encode(segment(i, payload.size())));
    append(payload);
    append(encode(Trailer{{i}, false}));
  }
  for (size_t at = 0, piece = 1; at < stream.size(); at += piece, piece = piece * 2 % 701 + 1) {
    boost::asio::write(
        lane, boost::asio::buffer(stream.data() + at, std::min(piece, stream.size() - at)));
    io_.restart();
    io_.run_for(1ms);
  }
  ASSERT_TRUE(until([&] { return a.events.payloads.size() == 2; }));
  for (uint32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(a.events.headers[i].segment, i);
    EXPECT_EQ(a.events.headers[i].checksum.value, i);
    EXPECT_TRUE(filled(a.events.payloads[i].bytes(), 4));
  }
}

TEST_F(TcpPeerTest, WhatAPeerMustNotSayEndsTheChannel) {
  HeaderBytes changed = encode(segment(1, 100));
  changed[20] ^= std::byte{1};
  std::vector<std::byte> bad_end(kHeaderBytes + 100 + kTrailerBytes);
  const HeaderBytes header = encode(segment(1, 100));
  std::copy(header.begin(), header.end(), bad_end.begin());
  const std::vector<std::vector<std::byte>> streams = {
      {changed.begin(), changed.end()}, bad_end, std::vector<std::byte>(kHeaderBytes)};
  for (const auto& stream : streams) {
    Side a(io_, 1);
    Socket lane = open(a);
    boost::asio::write(lane, boost::asio::buffer(stream));
    ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
    EXPECT_EQ(a.events.closes[0].code(), Code::kProtocol) << a.events.closes[0].to_string();
    EXPECT_TRUE(a.events.payloads.empty());
  }
}

TEST_F(TcpPeerTest, AGivenUpSegmentIsNobodys) {
  Side a(io_, 1);
  Socket lane = open(a);
  const std::vector<std::byte> payload(500);
  boost::asio::write(lane, boost::asio::buffer(encode(segment(1, 500))));
  boost::asio::write(lane, boost::asio::buffer(payload));
  boost::asio::write(lane, boost::asio::buffer(encode(Trailer{{}, true})));
  boost::asio::write(lane, boost::asio::buffer(encode(segment(2, 500))));
  boost::asio::write(lane, boost::asio::buffer(payload));
  boost::asio::write(lane, boost::asio::buffer(encode(Trailer{{9}, false})));
  ASSERT_TRUE(until([&] { return a.events.payloads.size() == 1; }));
  EXPECT_EQ(a.events.headers[0].segment, 2u);
}

TEST_F(TcpPeerTest, APeerThatGoesInTheMiddleOfASegmentIsNoticed) {
  Side a(io_, 1);
  Socket lane = open(a);
  boost::asio::write(lane, boost::asio::buffer(encode(segment(1, 5000))));
  boost::asio::write(lane, boost::asio::buffer(std::vector<std::byte>(100)));
  run_for(io_, 20ms);
  EXPECT_TRUE(a.events.closes.empty());
  lane.close();
  ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
  EXPECT_EQ(a.events.closes[0].code(), Code::kUnavailable);
}

// Where a token is set, or TLS is used: whoever greets proves that he was let in.
class TcpAuthTest : public TcpEndpointTest {
 protected:
  std::shared_ptr<Side> side(uint64_t incarnation) {
    return std::make_shared<Side>(io_, incarnation, TcpConfig{.open_deadline = 400ms}, 4,
                                  std::make_shared<ChannelSessions>());
  }
  static void let_in(Side& a, Side& b) {
    const Digest key = random_digest();
    a.sessions->begin(b.incarnation, key);
    b.sessions->begin(a.incarnation, key);
  }
  Status outcome(const std::shared_ptr<Side::Opened>& opened) {
    EXPECT_TRUE(until([&] { return opened->has_value(); }));
    return opened->has_value() ? (*opened)->status() : Status();
  }
};

TEST_F(TcpAuthTest, WhoeverWasLetInIsGreeted) {
  const auto a = side(1), b = side(2);
  let_in(*a, *b);
  join(io_, *a, *b);
}

TEST_F(TcpAuthTest, OneWithoutTheKeyIsTurnedAwayAndTheRightOneStillGetsIn) {
  const auto a = side(1), b = side(2);
  let_in(*a, *b);
  for (const bool greets_first : {true, false}) {
    SCOPED_TRACE(greets_first);
    // It knows the nonce, which HELLO says to everybody, and calls itself `a`.
    Greeting greeting{.nonce = b->nonce(), .from = a->incarnation, .to = b->incarnation};
    greeting.proof = random_digest();
    Socket stranger = raw(*b);
    std::shared_ptr<Side::Opened> theirs;
    if (!greets_first) theirs = b->open(a->hello(), false, b->events);
    say(stranger, greeting);
    if (greets_first) {
      run_for(io_, 20ms);
      theirs = b->open(a->hello(), false, b->events);
    }
    std::string said;
    ASSERT_TRUE(until([&] { return closed(stranger, &said); }));
    ASSERT_EQ(said.size(), kGreetingBytes);
    GreetingBytes bytes;
    std::memcpy(bytes.data(), said.data(), bytes.size());
    const auto answer = decode_greeting(bytes);
    ASSERT_TRUE(answer.ok()) << answer.status().to_string();
    EXPECT_TRUE(answer->refusal);
    EXPECT_FALSE(theirs->has_value());
    const auto ours = a->open(b->hello(), true, a->events);
    EXPECT_TRUE(outcome(ours).ok());
    EXPECT_TRUE(outcome(theirs).ok());
  }
}

TEST_F(TcpAuthTest, AProofHoldsForOneLaneOnly) {
  const auto b = side(2);
  b->sessions->begin({kRaw}, random_digest());
  Greeting greeting = greeting_to(*b);
  greeting.lanes = 2;
  const auto theirs = b->open(raw_hello(), false, b->events);
  std::vector<Socket> lanes;
  for (uint16_t lane = 0; lane < 2; ++lane) {
    greeting.lane = lane;
    if (lane == 0)
      greeting.proof = *b->sessions->proof({kRaw}, "tcp dialler 1 lane 0 of 2", b->nonce(), {kRaw},
                                           b->incarnation);
    lanes.push_back(raw(*b));
    say(lanes.back(), greeting);
  }
  ASSERT_TRUE(until([&] { return closed(lanes[1]); }));
  EXPECT_FALSE(closed(lanes[0]));
  EXPECT_EQ(outcome(theirs).code(), Code::kDeadlineExceeded);
}

TEST_F(TcpAuthTest, AListenerWithoutTheKeyGetsNothing) {
  const auto a = side(1), b = side(2);
  a->sessions->begin(b->incarnation, random_digest());
  b->sessions->begin(a->incarnation, random_digest());
  const auto ours = a->open(b->hello(), true, a->events);
  const auto theirs = b->open(a->hello(), false, b->events);
  EXPECT_EQ(outcome(ours).code(), Code::kRefused);
  EXPECT_EQ(outcome(theirs).code(), Code::kDeadlineExceeded);
}

TEST_F(TcpEndpointTest, StopEndsOpeningsAndChannels) {
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

TEST_F(TcpEndpointTest, WrongOptionsAreNamed) {
  auto transit = make_pool(kTransitBytes, 1);
  const auto create = [&](TcpConfig config, const std::string& host) {
    return TcpEndpoint::create(io_, config, host, {{1}, 2},
                               ChannelMemory::create(io_, nullptr, nullptr))
        .status()
        .message();
  };
  EXPECT_EQ(create({.lanes = 0}, "127.0.0.1"), "tcp lanes is 0: expected 1 to 16");
  EXPECT_EQ(create({.queued_segments = 0}, "127.0.0.1"),
            "tcp queued_segments is 0: expected at least 1");
  EXPECT_THAT(create({}, "192.0.2.1"), HasSubstr("listen on 192.0.2.1:0"));
}

}  // namespace
}  // namespace baton::tcp
