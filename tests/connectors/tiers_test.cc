// What an engine's node keeps below its host tier, and loads from there: by a tier that does what
// the test says.
#include <gtest/gtest.h>

#include "tests/connectors/two_nodes.h"
#include "tests/fakes/memory_tier.h"
#include "transfer/base/log.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

// Node a prefills for itself and has tiers below the host's; node b may ask it.
class TiersTest : public TwoNodes {
 protected:
  static constexpr uint32_t kChunk = 64;
  static constexpr size_t kChunkBytes = 3 * kChunk * 2 * 2 * 24;

  // `slots` of the retained arena.
  void start_with_tiers(size_t slots = 16, bool second = false) {
    a_shape.blocks = 512;
    tune_a = [this, slots, second](NodeConfig& config) {
      config.retained_bytes = slots * kChunkBytes;
      config.tiers.find_deadline = std::chrono::seconds(1);
      config.tiers.hung_after = std::chrono::milliseconds(300);
      config.seams.tiers = [this, second](boost::asio::io_context& io) {
        std::vector<std::unique_ptr<Tier>> tiers;
        tiers.push_back(std::make_unique<MemoryTier>(io, near));
        if (second) tiers.push_back(std::make_unique<MemoryTier>(io, far, "s3"));
        return tiers;
      };
    };
    start();
  }
  // Prefills a prompt on node a and waits until everything of it is where it is to go.
  void keep(uint32_t tokens, uint32_t prompt) {
    const size_t chunks = (tokens + kChunk - 1) / kChunk;
    const size_t before = near->chunks();
    auto p = prefiller();
    ASSERT_TRUE(
        p.create(handoff(), {}, tokens, prompt, std::chrono::seconds(30), Duration::zero()).ok());
    p.compute(kChunk);
    ASSERT_TRUE(p.wait_released());
    ASSERT_TRUE(p.released.until([&] { return near->chunks() == before + chunks; }));
  }
  // Other prompts, until nothing of what was there before is in the host tier.
  void push_out(size_t slots) {
    for (size_t i = 0; i < slots; ++i) keep(kChunk, 1000 + static_cast<uint32_t>(i));
  }
  // A decoder on node a itself: what its own tiers have.
  Decoder own() { return {*a_node, *a_kv}; }

  std::shared_ptr<MemoryTierState> near = std::make_shared<MemoryTierState>();
  std::shared_ptr<MemoryTierState> far = std::make_shared<MemoryTierState>();
};

TEST_F(TiersTest, AChunkGoesDownByReferenceAndComesBackWholeWhenTheHostTierHasItNoMore) {
  start_with_tiers(4);
  keep(3 * kChunk + 10, 1);
  // One gather, and nothing else was copied for the tier below.
  const double gathered = 3 * kChunkBytes + 3 * 10 * 2 * 2 * 24;
  EXPECT_EQ(copied(*a_node, "gather"), gathered);
  push_out(4);
  EXPECT_EQ(copied(*a_node, "gather"), gathered + 4 * kChunkBytes);

  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 3 * kChunk + 10, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.session->poll().tokens, 3 * kChunk + 10);
  EXPECT_EQ(d.wrong(3 * kChunk + 10), 0u);
  EXPECT_EQ(d.session->report().transport, "nvme");
  EXPECT_EQ(near->reads(), 4u);
  EXPECT_EQ(copied(*a_node, "tier_load"), gathered);
  ASSERT_TRUE(d.finish());

  // What was read is in the host tier now.
  auto again = own();
  ASSERT_TRUE(again.create(handoff(), Flow::kFetch, {}, 3 * kChunk + 10, 1).ok());
  ASSERT_TRUE(again.load());
  EXPECT_EQ(again.wrong(3 * kChunk + 10), 0u);
  EXPECT_EQ(again.session->report().transport, "host");
  EXPECT_EQ(near->reads(), 4u);
  ASSERT_TRUE(again.finish());
}

TEST_F(TiersTest, LayersAreToldBeforeTheLastOneHasCome) {
  start_with_tiers(4);
  keep(kChunk, 1);
  push_out(4);
  near->hold_reads_after(2);
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, kChunk, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  EXPECT_TRUE(d.session->wait_layer(0, std::chrono::seconds(20)).ok());
  EXPECT_TRUE(d.session->wait_layer(1, std::chrono::seconds(20)).ok());
  EXPECT_EQ(d.session->wait_layer(2, Duration::zero()).code(), Code::kDeadlineExceeded);
  EXPECT_EQ(d.session->poll().state, State::kLoading);
  near->release();
  EXPECT_TRUE(d.session->wait_layer(2, std::chrono::seconds(20)).ok());
  ASSERT_TRUE(d.wait(State::kLoaded));
  EXPECT_EQ(d.wrong(kChunk), 0u);
}

TEST_F(TiersTest, WhatIsPartlyInTheHostTierIsOneOffer) {
  start_with_tiers(4);
  keep(4 * kChunk, 1);
  push_out(2);  // the two oldest leave
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 4 * kChunk, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.session->poll().tokens, 4 * kChunk);
  EXPECT_EQ(d.wrong(4 * kChunk), 0u);
  EXPECT_EQ(near->reads(), 2u);
}

TEST_F(TiersTest, APromptOfMoreChunksThanTheArenaHasSlotsIsLoadedWhole) {
  start_with_tiers(3);
  for (uint32_t chunks = 1; chunks <= 10; ++chunks) keep(kChunk, 50 + chunks);
  const uint32_t tokens = 10 * kChunk;
  {
    auto p = prefiller();
    ASSERT_TRUE(
        p.create(handoff(), {}, tokens, 1, std::chrono::seconds(30), Duration::zero()).ok());
    p.begin();
    // Chunk by chunk, so that each finds a slot.
    for (uint32_t c = 0; c < 10; ++c) {
      for (uint32_t l = 0; l < 3; ++l) p.layer(l, c * kChunk, (c + 1) * kChunk);
      ASSERT_TRUE(p.released.until([&] { return near->chunks() == 11 + c; }));
    }
    p.session->finish();
    ASSERT_TRUE(p.wait_released());
  }
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, tokens, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.session->poll().tokens, tokens);
  EXPECT_EQ(d.wrong(tokens), 0u);
}

TEST_F(TiersTest, WhatFailsIsComputedAndTheLeadingChunksCount) {
  start_with_tiers(4);
  keep(2 * kChunk, 1);
  push_out(4);
  {
    auto d = own();  // brings the first chunk into the host tier
    ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, kChunk, 1).ok());
    ASSERT_TRUE(d.load());
    ASSERT_TRUE(d.finish());
  }
  near->fail_reads(Status(Code::kChecksum, "does not verify"), 2);
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.session->poll().tokens, kChunk);
  EXPECT_EQ(d.session->poll().why.code(), Code::kChecksum);
  EXPECT_EQ(d.wrong(kChunk), 0u);
  ASSERT_TRUE(d.finish());
  EXPECT_EQ(metric(*a_node, R"(baton_slots{pool="retained",state="quarantined"})"), 0);
}

TEST_F(TiersTest, WhatTheNearerTierDoesNotGiveTheNextOneDoes) {
  start_with_tiers(4, true);
  keep(2 * kChunk, 1);
  push_out(4);
  ASSERT_EQ(far->chunks(), 6u);
  near->fail_reads(Status(Code::kInternal, "the device failed"), 1);
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.session->poll().tokens, 2 * kChunk);
  EXPECT_EQ(d.wrong(2 * kChunk), 0u);
  EXPECT_EQ(far->reads(), 2u);
}

TEST_F(TiersTest, ATierThatMustAskIsAskedOnceAndAnswersLater) {
  near->must_ask();
  start_with_tiers(4);
  keep(2 * kChunk, 1);
  push_out(4);
  near->hold();
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.changed.until([&] { return near->finds() == 1; }));
  EXPECT_EQ(d.session->poll().state, State::kWaiting);  // "check back later"
  near->release();
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.wrong(2 * kChunk), 0u);

  auto other = own();
  ASSERT_TRUE(other.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 99).ok());
  ASSERT_TRUE(other.wait_over());
  EXPECT_EQ(other.session->poll().state, State::kFailed);
  EXPECT_EQ(other.session->report().end, End::kRefused);
}

TEST_F(TiersTest, ALoadThatIsLateEndsAtItsDeadline) {
  tune_b = {};
  start_with_tiers(4);
  keep(kChunk, 1);
  push_out(4);
  near->hold();
  auto d = own();
  ASSERT_TRUE(
      d.create(handoff(), Flow::kFetch, {}, kChunk, 1, std::chrono::milliseconds(300)).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kFailed);
  EXPECT_EQ(d.session->poll().why.code(), Code::kDeadlineExceeded);
  // The slot is still written to: it is nobody's until the device is through.
  EXPECT_EQ(metric(*a_node, R"(baton_tier_chunks{tier="host"})"), 3);
  near->release();
  ASSERT_TRUE(d.finish());
}

TEST_F(TiersTest, ASlowTierKeepsNoMoreOfTheArenaThanItsShare) {
  start_with_tiers(8);
  near->hold();
  // Stores hang. A share of a quarter is two slots; what waits does so by its key.
  for (uint32_t i = 0; i < 20; ++i) {
    auto p = prefiller();
    ASSERT_TRUE(
        p.create(handoff(), {}, kChunk, 100 + i, std::chrono::seconds(30), Duration::zero()).ok());
    p.compute();
    ASSERT_TRUE(p.wait_released());
  }
  EXPECT_EQ(near->held(), 2u);
  EXPECT_EQ(metric(*a_node, "baton_retain_skipped_total"), 0);
  near->release();
  // Those that are still in the host tier follow.
  Events any;
  ASSERT_TRUE(any.until([&] { return near->chunks() == 8; }));
  EXPECT_TRUE(any.until(
      [&] { return metric(*a_node, R"(baton_tier_stores_skipped_total{tier="nvme"})") == 12; }));
}

TEST_F(TiersTest, AStoreThatFailsHurtsNobody) {
  start_with_tiers(4);
  near->fail_stores(Status(Code::kInternal, "no space left on the device"));
  auto p = prefiller();
  ASSERT_TRUE(
      p.create(handoff(), {}, 2 * kChunk, 1, std::chrono::seconds(30), Duration::zero()).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.wrong(2 * kChunk), 0u);
  EXPECT_EQ(near->chunks(), 0u);
}

TEST_F(TiersTest, APeersFetchFindsWhatLiesBelowTheHostTier) {
  start_with_tiers(4);
  keep(3 * kChunk, 1);
  push_out(4);
  auto d = decoder();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, a_address(), 3 * kChunk, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.session->poll().tokens, 3 * kChunk);
  EXPECT_EQ(d.wrong(3 * kChunk), 0u);
  EXPECT_EQ(near->reads(), 3u);
}

TEST_F(TiersTest, ARestartedNodeFindsWhatItsTierKept) {
  start_with_tiers(4);
  keep(2 * kChunk, 1);
  a_node.reset();
  b_node.reset();
  start();
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.wrong(2 * kChunk), 0u);
  EXPECT_EQ(d.session->report().transport, "nvme");
}

TEST_F(TiersTest, ANodeThatStopsWithReadsAndStoresUnderWayEndsThem) {
  start_with_tiers(4);
  keep(kChunk, 1);
  push_out(4);
  near->hold();
  auto d = own();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, kChunk, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  ASSERT_TRUE(d.changed.until([&] { return near->held() != 0; }));
  d.session.reset();
  a_node.reset();
  EXPECT_EQ(near->held(), 0u);
}

class HungTierDeathTest : public TiersTest {
 protected:
  // What runs in the process that ends begins in a new one: there are threads here.
  HungTierDeathTest() { ::testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
};

TEST_F(HungTierDeathTest, ANodeWhoseDeviceHangsEndsTheProcess) {
  const auto stop = [this] {
    init_logging("test");
    near->hang();
    start_with_tiers();
    a_node.reset();
  };
  EXPECT_EXIT(stop(), ::testing::ExitedWithCode(kHungDeviceExit), "a tier's device hangs");
}

TEST_F(TiersTest, OptionsOutOfBoundsAreRefusedByName) {
  KvEngine kv({}, 1);
  NodeConfig config = small_node(kv, channel);
  config.tiers.find_deadline = Duration::zero();
  EXPECT_EQ(Node::create(config).status().message(),
            "tiers.find_deadline is 0 ms: expected more than 0");
  config = small_node(kv, channel);
  config.tiers.load_deadline = Duration::zero();
  EXPECT_EQ(Node::create(config).status().message(),
            "tiers.load_deadline is 0 ms: expected more than 0");
  config = small_node(kv, channel);
  config.tiers.store_share = 1.5;
  EXPECT_EQ(Node::create(config).status().message(),
            "tiers.store_share is 1.500000: expected more than 0, and 1 at most");
}

}  // namespace
}  // namespace baton::fakes
