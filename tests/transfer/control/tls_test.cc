// Control connections over mutual TLS: who is let in, and that the rest is as without.
#include "transfer/control/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transfer/control/certificates.h"
#include "tests/transfer/control/test_node.h"

namespace baton::control {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;

class TlsTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  static ControlConfig with(TlsFiles files, const char* secret = nullptr) {
    ControlConfig config;
    config.tls = std::move(files);
    if (secret != nullptr) config.token = *Token::create(secret, "test");
    return config;
  }
  void expect_apart(TestNode& a, TestNode& b) {
    for (const bool other_way : {true, false}) {
      TestNode& from = other_way ? b : a;
      TestNode& to = other_way ? a : b;
      const auto connected = from.connect(to.plane->address());
      ASSERT_TRUE(until([&] { return connected->has_value(); }));
      EXPECT_FALSE((*connected)->ok());
      run_for(io_, 20ms);
    }
    EXPECT_EQ(a.events, Strings{});
    EXPECT_EQ(b.events, Strings{});
  }

  Authority authority_;
  boost::asio::io_context io_;
};

TEST_F(TlsTest, TwoNodesOfOneAuthorityMeetAndSpeak) {
  for (const char* secret : {static_cast<const char*>(nullptr), "a-token-of-the-tests"}) {
    for (const bool other_way : {true, false}) {
      TestNode a(io_, 1, with(authority_.issue("a"), secret));
      TestNode b(io_, 2, with(authority_.issue("b"), secret));
      TestNode& from = other_way ? b : a;
      TestNode& to = other_way ? a : b;
      const auto connected = from.connect(to.plane->address());
      ASSERT_TRUE(until([&] { return connected->has_value() && !to.up.empty(); }));
      ASSERT_TRUE((*connected)->ok()) << (*connected)->status().to_string();
      // Channels have their key, token or not.
      EXPECT_EQ(from.peer()->session_key(), to.peer()->session_key());
      EXPECT_NE(from.peer()->session_key(), Digest{});
      protocol::Fetch large{{HandoffId{{9}}, 1}, 60'000 * 64, 0, {}, 1000};
      large.keys.resize(60'000);  // 1.9 MB
      from.peer()->send(large);
      from.peer()->send(numbered(1));
      to.peer()->send(numbered(2));
      ASSERT_TRUE(until([&] { return to.messages.size() == 2 && from.messages.size() == 1; }));
      EXPECT_TRUE(to.messages[0] == protocol::Message(large));
      EXPECT_EQ(number_of(to.messages[1]), 1u);
      to.plane->stop();
      ASSERT_TRUE(until([&] { return from.count("down") == 1; }));
      // Reset where a heartbeat was on its way.
      EXPECT_THAT(from.downs[0].message(),
                  AnyOf(HasSubstr("closed the connection"), HasSubstr("reset by peer")));
    }
  }
}

TEST_F(TlsTest, BothDialAtOnceAndShareOneConnection) {
  TestNode a(io_, 1, with(authority_.issue("a"))), b(io_, 2, with(authority_.issue("b")));
  const auto there = a.connect(b.plane->address());
  const auto back = b.connect(a.plane->address());
  ASSERT_TRUE(until([&] { return there->has_value() && back->has_value(); }));
  ASSERT_TRUE((*there)->ok()) << (*there)->status().to_string();
  ASSERT_TRUE((*back)->ok()) << (*back)->status().to_string();
  EXPECT_EQ(a.events, Strings{"up"});
  EXPECT_EQ(b.events, Strings{"up"});
}

TEST_F(TlsTest, AnotherAuthoritysOrAnExpiredCertificateIsRefused) {
  Authority other;
  {
    TestNode a(io_, 1, with(authority_.issue("a"))), b(io_, 2, with(other.issue("b")));
    expect_apart(a, b);
  }
  {
    // It trusts this authority, and only shows the wrong certificate; or one that is too old.
    TlsFiles mixed = other.issue("c");
    mixed.authority = authority_.path("ca.pem");
    for (const TlsFiles& files : {mixed, authority_.issue("d", -3600)}) {
      TestNode a(io_, 1, with(authority_.issue("a"))), b(io_, 2, with(files));
      expect_apart(a, b);
    }
  }
}

TEST_F(TlsTest, OneSideWithoutTlsIsRefusedAndSaysWhy) {
  TestNode a(io_, 1, with(authority_.issue("a"))), b(io_, 2);
  const auto there = a.connect(b.plane->address());
  ASSERT_TRUE(until([&] { return there->has_value(); }));
  EXPECT_THAT((*there)->status().message(), HasSubstr("TLS handshake"));
  expect_apart(a, b);
}

TEST_F(TlsTest, RefusalsReachThePeer) {
  TestNode a(io_, 1, with(authority_.issue("a"), "a-token-of-the-tests"));
  TestNode b(io_, 2, with(authority_.issue("b"), "another-token"));
  for (const bool other_way : {true, false}) {
    TestNode& from = other_way ? b : a;
    TestNode& to = other_way ? a : b;
    const auto connected = from.connect(to.plane->address());
    ASSERT_TRUE(until([&] { return connected->has_value(); }));
    EXPECT_EQ((*connected)->status().code(), Code::kRefused);
    EXPECT_THAT((*connected)->status().message(), HasSubstr("same token"));
  }
}

TEST_F(TlsTest, AHandshakeThatDoesNotComeEndsAtTheDeadline) {
  ControlConfig config = with(authority_.issue("a"));
  config.hello_deadline = 150ms;
  config.dial_deadline = 150ms;
  TestNode node(io_, 1, config);
  RawPeer silent = RawPeer::dial(io_, node.plane->address());
  EXPECT_TRUE(silent.closed());
  RawListener listener(io_);
  const auto connected = node.connect(listener.address());
  ASSERT_TRUE(until([&] { return connected->has_value(); }));
  EXPECT_EQ((*connected)->status().code(), Code::kDeadlineExceeded);
  // Frames are no handshake.
  RawPeer plain = RawPeer::dial(io_, node.plane->address());
  plain.send(test_hello(2));
  ASSERT_TRUE(until([&] { return plain.ended_by_now(); }));
  EXPECT_EQ(node.events, Strings{});
}

TEST(TlsFilesTest, WhatIsWrongWithThemIsNamed) {
  Authority authority;
  EXPECT_FALSE(*make_tls({}));
  const TlsFiles good = authority.issue("a");
  EXPECT_TRUE(*make_tls(good));
  const auto message = [&](const std::function<void(TlsFiles&)>& change) {
    TlsFiles files = good;
    change(files);
    const Status status = make_tls(files).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    return status.message();
  };
  EXPECT_THAT(message([](TlsFiles& f) { f.key.clear(); }), HasSubstr("all three"));
  EXPECT_THAT(message([](TlsFiles& f) { f.key = "/absent"; }), HasSubstr("--tls-key /absent"));
  EXPECT_THAT(message([](TlsFiles& f) { f.certificate = "/absent"; }), HasSubstr("--tls-cert"));
  EXPECT_THAT(message([](TlsFiles& f) { f.authority = f.key; }), HasSubstr("--tls-ca"));
  EXPECT_THAT(message([&](TlsFiles& f) { f.key = authority.issue("b").key; }),
              HasSubstr("--tls-key"));
  ASSERT_EQ(::chmod(good.key.c_str(), 0644), 0);
  EXPECT_THAT(message([](TlsFiles&) {}), HasSubstr("every user"));
}

}  // namespace
}  // namespace baton::control
