// An engine whose KV means something else from now on: what its node kept is found no more.
#include <gtest/gtest.h>

#include "tests/connectors/two_nodes.h"

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

}  // namespace
}  // namespace baton::fakes
