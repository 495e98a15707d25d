// Who is let in where a token is set, and what nobody may do without it.
#include "transfer/control/auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transfer/control/test_node.h"

namespace baton::control {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using protocol::Auth;
using protocol::Heartbeat;
using protocol::Hello;
using protocol::Refuse;
using protocol::RefuseReason;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Strings = std::vector<std::string>;

constexpr const char* kSecret = "correct-horse-battery-staple";

Token token_of(const char* secret) { return *Token::create(secret, "test"); }

Hello hello_of(const std::string& node, uint64_t incarnation) {
  Hello hello = test_hello(incarnation);
  hello.node = node;
  hello.has_token = true;
  hello.challenge = random_digest();
  return hello;
}

TEST(Proof, HoldsForOneRoleAndTheseTwoHellosAlone) {
  const Token token = token_of(kSecret);
  const Hello a = hello_of("a:1", 1), b = hello_of("b:2", 2);
  const Auth proof = prove(token, AuthRole::kDialler, a, b);
  EXPECT_TRUE(verify(proof, token, AuthRole::kDialler, a, b));
  EXPECT_FALSE(verify(proof, token, AuthRole::kAcceptor, a, b));
  EXPECT_FALSE(verify(proof, token, AuthRole::kDialler, b, a));
  EXPECT_FALSE(verify(proof, token_of("another"), AuthRole::kDialler, a, b));
  EXPECT_FALSE(verify(Auth{}, token, AuthRole::kDialler, a, b));
  const std::pair<const char*, std::function<void(Hello&)>> changes[] = {
      {"node", [](Hello& h) { h.node = "c:3"; }},
      {"incarnation", [](Hello& h) { ++h.incarnation.value; }},
      {"fingerprint", [](Hello& h) { h.fingerprint.model = "model@2"; }},
      {"socket", [](Hello& h) { h.local_socket = "mine"; }},
      {"nonce", [](Hello& h) { ++h.channel_nonce; }},
      {"port", [](Hello& h) { ++h.tcp_port; }},
      {"ucx", [](Hello& h) { h.ucx_address = "mine"; }},
      {"challenge", [](Hello& h) { h.challenge[31] ^= 1; }},
  };
  for (const auto& [name, change] : changes) {
    SCOPED_TRACE(name);
    Hello other_a = a, other_b = b;
    change(other_a);
    change(other_b);
    EXPECT_FALSE(verify(proof, token, AuthRole::kDialler, other_a, b));
    EXPECT_FALSE(verify(proof, token, AuthRole::kDialler, a, other_b));
    EXPECT_NE(session_key(token, a, b), session_key(token, other_a, b));
  }
  Hello unsayable = a;
  unsayable.node = std::string(protocol::kMaxText + 1, 'n');
  EXPECT_FALSE(verify(Auth{}, token, AuthRole::kDialler, unsayable, b));
  EXPECT_FALSE(verify(prove(token, AuthRole::kDialler, unsayable, b), token, AuthRole::kDialler,
                      unsayable, b));
}

class AuthTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  static ControlConfig with(const char* secret) {
    ControlConfig config;
    if (secret != nullptr) config.token = token_of(secret);
    return config;
  }
  static Hello said(RawPeer& raw) {
    const auto message = raw.receive();
    EXPECT_TRUE(message && std::holds_alternative<Hello>(*message));
    return message ? std::get<Hello>(*message) : Hello{};
  }
  // The node refuses, closes, and has told its owner nothing.
  void expect_refused(TestNode& node, RawPeer& raw, const char* text) {
    const auto message = raw.receive();
    ASSERT_TRUE(message && std::holds_alternative<Refuse>(*message));
    const Refuse& refuse = std::get<Refuse>(*message);
    EXPECT_EQ(refuse.reason, RefuseReason::kAuthentication);
    EXPECT_THAT(refuse.text, AllOf(HasSubstr(text), Not(HasSubstr(kSecret))));
    EXPECT_TRUE(raw.closed());
    EXPECT_EQ(node.events, Strings{});
  }
  // Nothing but the end follows.
  void expect_closed(TestNode& node, RawPeer& raw) {
    EXPECT_TRUE(raw.closed());
    EXPECT_EQ(node.events, Strings{});
  }
  // A raw peer that dials, proves, and reads the node's proof.
  RawPeer join(TestNode& node, Hello* theirs, Hello ours, Auth* their_proof = nullptr) {
    RawPeer raw = RawPeer::dial(io_, node.plane->address());
    *theirs = said(raw);
    raw.send(ours);
    raw.send(prove(token_of(kSecret), AuthRole::kDialler, ours, *theirs));
    const auto answer = raw.receive();
    EXPECT_TRUE(answer && std::holds_alternative<Auth>(*answer));
    if (answer && std::holds_alternative<Auth>(*answer)) {
      const Auth auth = std::get<Auth>(*answer);
      EXPECT_TRUE(verify(auth, token_of(kSecret), AuthRole::kAcceptor, *theirs, ours));
      if (their_proof != nullptr) *their_proof = auth;
    }
    return raw;
  }

  boost::asio::io_context io_;
};

TEST_F(AuthTest, TwoNodesWithTheSameTokenMeetWhoeverDials) {
  for (const bool other_way : {true, false}) {  // so that the decider dials, and is dialled
    TestNode a(io_, 1, with(kSecret)), b(io_, 2, with(kSecret));
    TestNode& from = other_way ? b : a;
    TestNode& to = other_way ? a : b;
    const auto connected = from.connect(to.plane->address());
    ASSERT_TRUE(until([&] { return connected->has_value() && !to.up.empty(); }));
    ASSERT_TRUE((*connected)->ok()) << (*connected)->status().to_string();
    EXPECT_EQ(from.peer()->session_key(), to.peer()->session_key());
    EXPECT_NE(from.peer()->session_key(), Digest{});
    EXPECT_NE(from.peer()->hello().challenge, to.peer()->hello().challenge);
    from.peer()->send(numbered(7));
    to.peer()->send(numbered(8));
    ASSERT_TRUE(until([&] { return from.messages.size() == 1 && to.messages.size() == 1; }));
    EXPECT_EQ(from.events, (Strings{"up", "message"}));
    EXPECT_EQ(to.events, (Strings{"up", "message"}));
  }
}

TEST_F(AuthTest, BothDialAtOnceAndShareOneConnection) {
  for (int round = 0; round < 10; ++round) {
    TestNode a(io_, 1, with(kSecret)), b(io_, 2, with(kSecret));
    const auto there = a.connect(b.plane->address());
    const auto back = b.connect(a.plane->address());
    ASSERT_TRUE(until([&] { return there->has_value() && back->has_value(); }));
    ASSERT_TRUE((*there)->ok()) << (*there)->status().to_string();
    ASSERT_TRUE((*back)->ok()) << (*back)->status().to_string();
    EXPECT_EQ(a.events, Strings{"up"});
    EXPECT_EQ(b.events, Strings{"up"});
    EXPECT_EQ(a.peer()->session_key(), b.peer()->session_key());
  }
}

TEST_F(AuthTest, WrongOrMissingTokensAreRefusedOnBothSides) {
  struct Case {
    const char* from;
    const char* to;
    const char* says;
  };
  for (const auto& [from_secret, to_secret, says] :
       {Case{kSecret, "another-token", "does not verify"}, Case{kSecret, nullptr, "has none"},
        Case{nullptr, kSecret, "has none"}}) {
    for (const bool other_way : {true, false}) {
      SCOPED_TRACE(says);
      TestNode a(io_, 1, with(other_way ? to_secret : from_secret));
      TestNode b(io_, 2, with(other_way ? from_secret : to_secret));
      TestNode& from = other_way ? b : a;
      TestNode& to = other_way ? a : b;
      const auto connected = from.connect(to.plane->address());
      ASSERT_TRUE(until([&] { return connected->has_value(); }));
      EXPECT_EQ((*connected)->status().code(), Code::kRefused);
      EXPECT_THAT((*connected)->status().message(),
                  AllOf(HasSubstr(says), Not(HasSubstr(kSecret))));
      run_for(io_, 20ms);
      EXPECT_EQ(a.events, Strings{});
      EXPECT_EQ(b.events, Strings{});
    }
  }
}

TEST_F(AuthTest, ConnectionsHaveFreshChallengesAndSessions) {
  TestNode node(io_, 1, with(kSecret));
  Hello first, second;
  RawPeer one = join(node, &first, hello_of("larger:1", 2));
  ASSERT_TRUE(until([&] { return node.up.size() == 1; }));
  one.close();
  ASSERT_TRUE(until([&] { return node.count("down") == 1; }));
  RawPeer two = join(node, &second, hello_of("larger:1", 2));
  ASSERT_TRUE(until([&] { return node.up.size() == 2; }));
  EXPECT_NE(first.challenge, second.challenge);
  EXPECT_NE(node.up[0]->session_key(), node.up[1]->session_key());
}

TEST_F(AuthTest, NothingComputedFromTheTokenIsSaidToAStranger) {
  TestNode node(io_, 1, with(kSecret));
  RawPeer raw = RawPeer::dial(io_, node.plane->address());
  said(raw);
  raw.send(hello_of("larger:1", 2));
  run_for(io_, 50ms);
  EXPECT_TRUE(raw.received_by_now().empty());
  raw.send(Auth{.proof = random_digest()});
  expect_refused(node, raw, "does not verify");
}

TEST_F(AuthTest, AStrangerWithoutATokenIsRefused) {
  TestNode node(io_, 1, with(kSecret));
  RawPeer raw = RawPeer::dial(io_, node.plane->address());
  said(raw);
  Hello hello = hello_of("larger:1", 2);
  hello.has_token = false;
  raw.send(hello);
  expect_refused(node, raw, "has none");
}

TEST_F(AuthTest, AReplayedProofIsRefused) {
  TestNode node(io_, 1, with(kSecret));
  // What an eavesdropper has of a connection that was let in.
  Hello theirs;
  const Hello ours = hello_of("larger:1", 2);
  RawPeer heard = join(node, &theirs, ours);
  ASSERT_TRUE(until([&] { return node.up.size() == 1; }));
  const Auth proof = prove(token_of(kSecret), AuthRole::kDialler, ours, theirs);
  heard.close();
  ASSERT_TRUE(until([&] { return node.count("down") == 1; }));
  node.events.clear();
  RawPeer raw = RawPeer::dial(io_, node.plane->address());
  EXPECT_NE(said(raw).challenge, theirs.challenge);
  raw.send(ours);
  raw.send(proof);
  expect_refused(node, raw, "does not verify");
}

TEST_F(AuthTest, AReflectedProofIsRefused) {
  TestNode node(io_, 1, with(kSecret));
  RawListener listener(io_);
  // The node is made to prove itself as a dialler; what it says is thrown back at it at once, on
  // this connection and on one that it accepted.
  const auto connected = node.connect(listener.address());
  RawPeer dialled = listener.accept();
  Hello theirs = said(dialled);
  Hello mirrored = theirs;
  mirrored.node = listener.address().to_string();
  mirrored.incarnation = {2};
  dialled.send(mirrored);
  const auto message = dialled.receive();
  ASSERT_TRUE(message && std::holds_alternative<Auth>(*message));
  RawPeer accepted = RawPeer::dial(io_, node.plane->address());
  said(accepted);
  accepted.send(mirrored);
  accepted.send(*message);
  expect_refused(node, accepted, "does not verify");
  dialled.send(*message);
  expect_refused(node, dialled, "does not verify");
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_EQ((*connected)->status().code(), Code::kRefused);
}

TEST_F(AuthTest, AProofForAnotherHelloIsRefused) {
  TestNode node(io_, 1, with(kSecret));
  RawPeer raw = RawPeer::dial(io_, node.plane->address());
  const Hello theirs = said(raw);
  const Hello ours = hello_of("larger:1", 2);
  Hello changed = ours;  // on the way, by somebody who wants the channel for himself
  changed.channel_nonce = 1;
  changed.local_socket = "mine";
  raw.send(changed);
  raw.send(prove(token_of(kSecret), AuthRole::kDialler, ours, theirs));
  expect_refused(node, raw, "does not verify");
}

TEST_F(AuthTest, NobodySpeaksBeforeHeHasProven) {
  TestNode node(io_, 1, with(kSecret));
  const std::vector<std::pair<const char*, protocol::Message>> cases = {
      {"heartbeat", Heartbeat{1}}, {"message", numbered(1)}, {"hello", hello_of("larger:1", 2)}};
  for (const auto& [name, message] : cases) {
    SCOPED_TRACE(name);
    RawPeer raw = RawPeer::dial(io_, node.plane->address());
    said(raw);
    raw.send(hello_of("larger:1", 2));
    raw.send(message);
    expect_closed(node, raw);
  }
  // Nor is AUTH taken first, twice, or where no token is set.
  RawPeer first = RawPeer::dial(io_, node.plane->address());
  said(first);
  first.send(Auth{});
  expect_closed(node, first);
  TestNode open(io_, 3);
  RawPeer unasked = RawPeer::dial(io_, open.plane->address());
  said(unasked);
  Hello hello = hello_of("larger:1", 2);
  hello.has_token = false;
  unasked.send(hello);
  ASSERT_TRUE(until([&] { return open.up.size() == 1; }));
  unasked.send(Auth{});
  ASSERT_TRUE(until([&] { return open.count("down") == 1; }));
  EXPECT_EQ(open.downs[0].code(), Code::kProtocol);
  Hello theirs;
  const Hello ours = hello_of("larger:1", 2);
  RawPeer twice = join(node, &theirs, ours);
  ASSERT_TRUE(until([&] { return node.up.size() == 1; }));
  twice.send(prove(token_of(kSecret), AuthRole::kDialler, ours, theirs));
  ASSERT_TRUE(until([&] { return node.count("down") == 1; }));
  EXPECT_EQ(node.downs[0].code(), Code::kProtocol);
}

TEST_F(AuthTest, AProofThatDoesNotComeEndsAtTheDeadline) {
  ControlConfig config = with(kSecret);
  config.hello_deadline = 150ms;
  config.dial_deadline = 150ms;
  TestNode node(io_, 1, config);
  RawPeer raw = RawPeer::dial(io_, node.plane->address());
  said(raw);
  raw.send(hello_of("larger:1", 2));
  expect_closed(node, raw);
  // Where the node dialled: it has proven itself, and hears nothing.
  RawListener listener(io_);
  const auto connected = node.connect(listener.address());
  RawPeer silent = listener.accept();
  said(silent);
  silent.send(hello_of(listener.address().to_string(), 2));
  const auto proof = silent.receive();
  ASSERT_TRUE(proof && std::holds_alternative<Auth>(*proof));
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_EQ((*connected)->status().code(), Code::kDeadlineExceeded);
  expect_closed(node, silent);
}

TEST_F(AuthTest, AListenerThatCannotProveIsRefused) {
  TestNode node(io_, 1, with(kSecret));
  RawListener listener(io_);
  const auto connected = node.connect(listener.address());
  RawPeer raw = listener.accept();
  said(raw);
  // It sorts before and behind the node; a decider's HEARTBEAT is no substitute.
  raw.send(hello_of(listener.address().to_string(), 2));
  raw.send(Auth{.proof = random_digest()});
  raw.send(Heartbeat{1});
  ASSERT_TRUE(raw.receive());  // the node's own proof
  expect_refused(node, raw, "does not verify");
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_THAT((*connected)->status().message(), HasSubstr("does not verify"));
}

TEST_F(AuthTest, AStrangersClaimEndsNoLifeAndTakesNoPlace) {
  TestNode node(io_, 1, with(kSecret));
  Hello theirs;
  RawPeer good = join(node, &theirs, hello_of("larger:1", 2));
  ASSERT_TRUE(until([&] { return node.up.size() == 1; }));
  for (const uint64_t incarnation : {uint64_t{2}, uint64_t{3}}) {
    RawPeer raw = RawPeer::dial(io_, node.plane->address());
    said(raw);
    raw.send(hello_of("larger:1", incarnation));
    run_for(io_, 50ms);
    EXPECT_EQ(node.events, Strings{"up"});
    raw.send(Auth{.proof = random_digest()});
    const auto refused = raw.receive();
    ASSERT_TRUE(refused && std::holds_alternative<Refuse>(*refused));
    EXPECT_EQ(std::get<Refuse>(*refused).reason, RefuseReason::kAuthentication);
    EXPECT_TRUE(raw.closed());
  }
  EXPECT_EQ(node.events, Strings{"up"});
  good.send(numbered(1));
  ASSERT_TRUE(until([&] { return node.messages.size() == 1; }));
  // A true newer life does both, and the older one's is refused from then on.
  RawPeer newer = join(node, &theirs, hello_of("larger:1", 3));
  ASSERT_TRUE(until([&] { return node.up.size() == 2; }));
  EXPECT_EQ(node.events, (Strings{"up", "message", "down", "up"}));
}

TEST_F(AuthTest, AnOlderLifesProofDoesNotEndANewerOneThatIsProving) {
  TestNode node(io_, 1, with(kSecret));
  const Hello old_hello = hello_of("larger:1", 2), new_hello = hello_of("larger:1", 3);
  RawPeer newer = RawPeer::dial(io_, node.plane->address());
  const Hello to_newer = said(newer);
  newer.send(new_hello);
  Hello theirs;
  RawPeer older = join(node, &theirs, old_hello);
  ASSERT_TRUE(until([&] { return node.up.size() == 1; }));
  newer.send(prove(token_of(kSecret), AuthRole::kDialler, new_hello, to_newer));
  ASSERT_TRUE(until([&] { return node.up.size() == 2; }));
  EXPECT_EQ(node.peer()->hello().incarnation.value, 3u);
  EXPECT_EQ(node.events, (Strings{"up", "down", "up"}));
}

}  // namespace
}  // namespace baton::control
