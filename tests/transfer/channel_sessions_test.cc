#include "transfer/channel_sessions.h"

#include <gtest/gtest.h>

#include "transfer/channel_endpoint.h"

namespace baton {
namespace {

// Two nodes whose control connection has a session.
struct Pair {
  Pair() {
    const Digest key = random_digest();
    a_sessions->begin(b.self, key);
    b_sessions->begin(a.self, key);
  }
  static protocol::Hello hello_of(const ChannelIdentity& identity) {
    protocol::Hello hello;
    hello.incarnation = identity.self;
    hello.channel_nonce = identity.nonce;
    return hello;
  }
  std::shared_ptr<ChannelSessions> a_sessions = std::make_shared<ChannelSessions>();
  std::shared_ptr<ChannelSessions> b_sessions = std::make_shared<ChannelSessions>();
  ChannelIdentity a{{1}, 11, a_sessions};
  ChannelIdentity b{{2}, 22, b_sessions};
};

TEST(ChannelSessions, BothSidesProveToEachOther) {
  Pair pair;
  const ChannelProof there = pair.a.prove("dialler", Pair::hello_of(pair.b));
  EXPECT_NE(there, ChannelProof{});
  EXPECT_TRUE(pair.b.verify(there, "dialler", pair.a.self));
  EXPECT_TRUE(
      pair.a.verify(pair.b.prove("listener", Pair::hello_of(pair.a)), "listener", pair.b.self));
}

TEST(ChannelSessions, AProofHoldsForOneLabelDirectionNonceAndSession) {
  Pair pair;
  const ChannelProof proof = pair.a.prove("dialler", Pair::hello_of(pair.b));
  EXPECT_FALSE(pair.b.verify(proof, "listener", pair.a.self));
  EXPECT_FALSE(pair.a.verify(proof, "dialler", pair.b.self));  // reflected
  ChannelProof spoilt = proof;
  spoilt[0] ^= 1;
  EXPECT_FALSE(pair.b.verify(spoilt, "dialler", pair.a.self));
  EXPECT_FALSE(pair.b.verify(ChannelProof{}, "dialler", pair.a.self));
  protocol::Hello other_nonce = Pair::hello_of(pair.b);
  other_nonce.channel_nonce ^= 1;
  EXPECT_FALSE(pair.b.verify(pair.a.prove("dialler", other_nonce), "dialler", pair.a.self));
  // Overheard, and used once the control connection is another.
  pair.b_sessions->begin(pair.a.self, random_digest());
  EXPECT_FALSE(pair.b.verify(proof, "dialler", pair.a.self));
}

TEST(ChannelSessions, WithoutASessionNothingVerifies) {
  Pair pair;
  const ChannelProof proof = pair.a.prove("dialler", Pair::hello_of(pair.b));
  pair.b_sessions->end(pair.a.self);
  EXPECT_FALSE(pair.b.verify(proof, "dialler", pair.a.self));
  EXPECT_FALSE(pair.b.verify(ChannelProof{}, "dialler", pair.a.self));
  EXPECT_EQ(pair.b.prove("listener", Pair::hello_of(pair.a)), ChannelProof{});
}

TEST(ChannelSessions, WithoutATokenZerosAreThere) {
  const ChannelIdentity open{{3}, 33};
  EXPECT_EQ(open.prove("dialler", {}), ChannelProof{});
  EXPECT_TRUE(open.verify(ChannelProof{}, "dialler", {1}));
  EXPECT_FALSE(open.verify(random_digest(), "dialler", {1}));
}

}  // namespace
}  // namespace baton
