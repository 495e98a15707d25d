// An engine whose KV means something else from now on: what its node kept is found no more.
#include <gtest/gtest.h>

#include "tests/connectors/two_nodes.h"
#include "tests/fakes/memory_tier.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

class DropChunks : public TwoNodes {
 protected:
  static constexpr uint32_t kTokens = 150;  // three chunks
  static constexpr Duration kDeadline = std::chrono::seconds(20);

  // Kept by node a, under the engine's KV of that number.
  void keep(uint32_t kv, std::optional<Duration> lease = {}) {
    auto p = prefiller();
    ASSERT_TRUE(p.create(handoff(), {}, kTokens, kv, std::chrono::seconds(30), lease).ok());
    p.compute();
    ASSERT_TRUE(p.wait_released());
  }
  double chunks_in_tier() { return metric(*a_node, R"(baton_tier_chunks{tier="host"})"); }
  // What a load from node a's own host tier, or by a peer's FETCH, ends as.
  void expect_miss(Decoder d, std::vector<HostPort> peer) {
    ASSERT_TRUE(d.create(handoff(), Flow::kFetch, std::move(peer), kTokens, 4).ok());
    ASSERT_TRUE(d.wait_over());
    EXPECT_EQ(d.session->poll().state, State::kFailed);
    EXPECT_EQ(d.session->poll().why.code(), Code::kNotFound);
    EXPECT_TRUE(d.finish());
  }
};

TEST_F(DropChunks, NobodyFindsThemAnyMore) {
  start();
  keep(4);
  ASSERT_EQ(chunks_in_tier(), 3);
  const Result<size_t> dropped = a_node->drop_chunks(kDeadline);
  ASSERT_TRUE(dropped.ok());
  EXPECT_EQ(*dropped, 3u);
  EXPECT_EQ(chunks_in_tier(), 0);
  expect_miss(Decoder(*a_node, *a_kv), {});
  expect_miss(decoder(), a_address());
  keep(4);  // computed anew, it is kept anew
  EXPECT_EQ(chunks_in_tier(), 3);
  EXPECT_EQ(*a_node->drop_chunks(kDeadline), 3u);
}

TEST_F(DropChunks, PeersDoNotFindWhatIsKeptAnewEither) {
  start();
  keep(4);
  ASSERT_TRUE(a_node->drop_chunks(kDeadline).ok());
  keep(4);
  ASSERT_EQ(chunks_in_tier(), 3);
  NodeConfig config = small_node(*b_kv, channel);
  config.tiers.peers = a_address();
  auto made = Node::create(std::move(config));
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  b_node = std::move(made).value();
  expect_miss(decoder(), {});
  expect_miss(decoder(), a_address());
  // But for what node a has just prefilled for whoever fetches it.
  auto p = prefiller();
  const HandoffAttempt two_step = handoff();
  ASSERT_TRUE(p.create(two_step, {}, kTokens, 4, kDeadline, kDeadline).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  auto d = decoder();
  ASSERT_TRUE(d.create(two_step, Flow::kFetch, a_address(), kTokens, 4).ok());
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(kTokens), 0u);
  EXPECT_TRUE(d.finish());
}

TEST_F(DropChunks, WhatIsBeingGatheredThenIsNotKept) {
  start();
  auto p = prefiller();
  ASSERT_TRUE(p.create(handoff(), {}, kTokens, 4, kDeadline, Duration::zero()).ok());
  p.begin();
  p.layer(0, 0, kTokens);
  ASSERT_TRUE(Events().until([&] { return copied(*a_node, "gather") != 0; }));
  ASSERT_TRUE(a_node->drop_chunks(kDeadline).ok());
  for (uint32_t l = 1; l < a_shape.layers; ++l) p.layer(l, 0, kTokens);
  p.session->finish();
  ASSERT_TRUE(p.wait_released());
  EXPECT_EQ(chunks_in_tier(), 0);
}

TEST_F(DropChunks, ALoadThatHasPinnedThemGoesOn) {
  start();
  keep(4);
  auto d = decoder();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, a_address(), kTokens, 4).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  EXPECT_EQ(*a_node->drop_chunks(kDeadline), 3u);
  expect_miss(decoder(), a_address());
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(kTokens), 0u);
  EXPECT_TRUE(d.finish());
}

class DropChunksBelow : public DropChunks {
 protected:
  // Node a has a tier of its own below the host's, and one that it shares with others.
  void start_with_tiers() {
    tune_a = [this](NodeConfig& config) {
      config.seams.tiers = [this](boost::asio::io_context& io) {
        std::vector<std::unique_ptr<Tier>> tiers;
        tiers.push_back(std::make_unique<MemoryTier>(io, own, "nvme"));
        tiers.push_back(std::make_unique<MemoryTier>(io, shared, "s3"));
        return tiers;
      };
    };
    shared->share();
    start();
  }
  std::shared_ptr<MemoryTierState> own = std::make_shared<MemoryTierState>();
  std::shared_ptr<MemoryTierState> shared = std::make_shared<MemoryTierState>();
};

TEST_F(DropChunksBelow, WhatIsItsOwnIsEmptiedAndWhatIsSharedIsNotUsedAnyMore) {
  start_with_tiers();
  keep(4);
  Events any;
  ASSERT_TRUE(any.until([&] { return own->chunks() == 3 && shared->chunks() == 3; }));
  EXPECT_EQ(*a_node->drop_chunks(kDeadline), 3u);
  EXPECT_TRUE(any.until([&] { return own->chunks() == 0; }));
  expect_miss(Decoder(*a_node, *a_kv), {});
  EXPECT_EQ(shared->reads(), 0u);
  keep(4);
  EXPECT_EQ(chunks_in_tier(), 3);
  a_node.reset();
  b_node.reset();
  EXPECT_EQ(own->chunks(), 0u);     // the next process might mean something else by it
  EXPECT_EQ(shared->chunks(), 3u);  // what others keep is left alone, and nothing is added
  start();                          // made anew, it takes part again
  Decoder d(*a_node, *a_kv);
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, kTokens, 4).ok());
  ASSERT_TRUE(d.load());
  ASSERT_TRUE(d.finish());
}

TEST_F(DropChunksBelow, WhatIsBeingReadThenIsNotKept) {
  start_with_tiers();
  keep(4);
  Events any;
  ASSERT_TRUE(any.until([&] { return own->chunks() == 3; }));
  a_node.reset();
  b_node.reset();
  start();  // the host tier is empty
  own->hold();
  auto d = decoder();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, a_address(), kTokens, 4).ok());
  ASSERT_TRUE(any.until([&] { return own->held() != 0; }));
  ASSERT_TRUE(a_node->drop_chunks(kDeadline).ok());
  own->release();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kFailed);
  EXPECT_EQ(chunks_in_tier(), 0);
  ASSERT_TRUE(d.finish());
}

}  // namespace
}  // namespace baton::fakes
