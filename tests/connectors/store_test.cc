// Chunks that other nodes keep: a store without an engine, and peers.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/connectors/two_nodes.h"
#include "tests/fakes/memory_tier.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

constexpr uint32_t kChunk = 64;

// Engines' nodes a and b, and a store that both are given; over each channel.
class StoreTest : public TwoNodes, public ::testing::WithParamInterface<ChannelChoice> {
 protected:
  void SetUp() override { channel = GetParam(); }

  void start_store(const std::function<void(NodeConfig&)>& tune = {}) {
    NodeConfig config;
    config.store = true;
    config.channel = channel;
    config.listen = store_address;
    config.retained_bytes = 4u << 20;
    if (tune) tune(config);
    auto made = Node::create(std::move(config));
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    store = std::move(made).value();
    store_address = store->address();
  }
  void start_engines() {
    const auto use_store = [this](NodeConfig& config) { config.tiers.store = store_address; };
    tune_a = [=, before = tune_a](NodeConfig& config) {
      use_store(config);
      if (before) before(config);
    };
    tune_b = [=, before = tune_b](NodeConfig& config) {
      use_store(config);
      if (before) before(config);
    };
    start();
  }
  static void with_tier(NodeConfig& config, std::shared_ptr<MemoryTierState> state) {
    config.seams.tiers = [state](boost::asio::io_context& io) {
      std::vector<std::unique_ptr<Tier>> tiers;
      tiers.push_back(std::make_unique<MemoryTier>(io, state));
      return tiers;
    };
  }
  // Handoffs that ended so, over whichever channel.
  static double ended(Node& node, const std::string& how) {
    std::istringstream lines(node.metrics().text());
    double sum = 0;
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("baton_handoffs_total{") &&
          line.find("end=\"" + how + "\"") != std::string::npos)
        sum += std::stod(line.substr(line.rfind(' ')));
    return sum;
  }
  double in_store() { return metric(*store, R"(baton_tier_chunks{tier="host"})"); }
  // Prefills on node a, for nobody, and waits until the store has all of it.
  void keep(uint32_t tokens, uint32_t prompt) {
    const double before = in_store();
    prefill(tokens, prompt);
    Events any;
    ASSERT_TRUE(any.until([&] { return in_store() == before + (tokens + kChunk - 1) / kChunk; }));
  }
  void prefill(uint32_t tokens, uint32_t prompt) {
    auto p = prefiller();
    ASSERT_TRUE(
        p.create(handoff(), {}, tokens, prompt, std::chrono::seconds(30), Duration::zero()).ok());
    p.compute();
    ASSERT_TRUE(p.wait_released());
  }
  // What node b's own tiers, the store among them, have of a prompt.
  Decoder loader() { return {*b_node, *b_kv}; }
  void expect_loaded(uint32_t tokens, uint32_t prompt) {
    auto d = loader();
    ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, tokens, prompt).ok());
    ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
    EXPECT_EQ(d.session->poll().tokens, tokens);
    EXPECT_EQ(d.wrong(tokens), 0u);
    EXPECT_EQ(d.session->report().transport, "store");
    ASSERT_TRUE(d.finish());
  }
  void expect_missed(uint32_t tokens, uint32_t prompt) {
    auto d = loader();
    ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, tokens, prompt).ok());
    ASSERT_TRUE(d.wait_over());
    EXPECT_EQ(d.session->poll().state, State::kFailed);
    ASSERT_TRUE(d.finish());
  }

  HostPort store_address{"127.0.0.1", 0};
  std::unique_ptr<Node> store;
};

std::string channel_name(const ::testing::TestParamInfo<ChannelChoice>& info) {
  return info.param == ChannelChoice::kLocal ? "local"
         : info.param == ChannelChoice::kTcp ? "tcp"
                                             : "ucx";
}
INSTANTIATE_TEST_SUITE_P(Channels, StoreTest, ::testing::ValuesIn(kinds()), channel_name);

TEST_P(StoreTest, WhatOneEngineComputedAnotherLoads) {
  start_store();
  start_engines();
  keep(3 * kChunk + 10, 1);
  expect_loaded(3 * kChunk + 10, 1);
  expect_missed(kChunk, 2);
}

TEST_P(StoreTest, TheSameChunkIsKeptOnce) {
  start_store();
  start_engines();
  keep(2 * kChunk, 1);
  const double kept = copied(*store, "kept") + copied(*store, "received_into_blocks");
  // Node b computes the same prompt: the store has it already, and nothing crosses.
  Prefiller p(*b_node, *b_kv, b_shape.layers);
  ASSERT_TRUE(
      p.create(handoff(), {}, 2 * kChunk, 1, std::chrono::seconds(30), Duration::zero()).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  Events any;
  ASSERT_TRUE(any.until([&] { return ended(*store, "committed") == 4; }));
  EXPECT_EQ(copied(*store, "kept") + copied(*store, "received_into_blocks"), kept);
  EXPECT_EQ(in_store(), 2);
}

TEST_P(StoreTest, OutlivesEnginesAndIsOutlivedByThem) {
  const auto nvme = std::make_shared<MemoryTierState>();
  start_store([&](NodeConfig& config) { with_tier(config, nvme); });
  start_engines();
  keep(2 * kChunk, 1);
  // The engines restart.
  a_node.reset();
  b_node.reset();
  start();
  expect_loaded(2 * kChunk, 1);
  // The store restarts, and has what its own tier kept.
  Events any;
  ASSERT_TRUE(any.until([&] { return nvme->chunks() == 2; }));
  store.reset();
  expect_missed(2 * kChunk, 9);
  start_store([&](NodeConfig& config) { with_tier(config, nvme); });
  b_node.reset();
  a_node.reset();
  start();
  expect_loaded(2 * kChunk, 1);
  EXPECT_EQ(nvme->reads(), 2u);
}

TEST_P(StoreTest, AnEngineGoesOnWhereTheStoreIsGone) {
  start_store();
  start_engines();
  keep(kChunk, 1);
  store.reset();
  prefill(2 * kChunk, 2);
  expect_missed(kChunk, 1);
  // What is in its own host tier is found as ever.
  Decoder d(*a_node, *a_kv);
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 2).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.wrong(2 * kChunk), 0u);
  EXPECT_EQ(d.session->report().transport, "host");
}

TEST_P(StoreTest, SlotsFitTheFirstPeersChunksAndLargerOnesAreNotKept) {
  start_store();
  start_engines();
  keep(kChunk, 1);
  // An engine of another model, with larger chunks.
  KvEngine other({.layers = 4, .head_bytes = 32}, 7);
  NodeConfig config = small_node(other, channel);
  config.fingerprint.model = "another";
  config.fingerprint.layers = 4;
  config.tiers.store = store_address;
  auto made = Node::create(std::move(config));
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  Prefiller p(**made, other, 4);
  ASSERT_TRUE(p.create(handoff(), {}, kChunk, 1, std::chrono::seconds(30), Duration::zero()).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  Events any;
  ASSERT_TRUE(any.until([&] { return ended(*store, "refused") == 1; }));
  EXPECT_EQ(in_store(), 1);
  // The first model's are there as before.
  expect_loaded(kChunk, 1);
}

TEST_P(StoreTest, TwoModelsShareItAndNeitherSeesTheOthers) {
  start_store([](NodeConfig& config) { config.chunk_bytes = 64u << 10; });
  start_engines();
  keep(kChunk, 1);
  KvEngine other({.layers = 4, .head_bytes = 32}, 7);
  NodeConfig config = small_node(other, channel);
  config.fingerprint.model = "another";
  config.tiers.store = store_address;
  auto made = Node::create(std::move(config));
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  Decoder miss(**made, other);
  ASSERT_TRUE(miss.create(handoff(), Flow::kFetch, {}, kChunk, 1).ok());
  ASSERT_TRUE(miss.wait_over());
  EXPECT_EQ(miss.session->poll().state, State::kFailed);
  ASSERT_TRUE(miss.finish());
  Prefiller p(**made, other, 4);
  ASSERT_TRUE(p.create(handoff(), {}, kChunk, 1, std::chrono::seconds(30), Duration::zero()).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  Events any;
  ASSERT_TRUE(any.until([&] { return in_store() == 2; }));
  expect_loaded(kChunk, 1);
}

TEST_P(StoreTest, APeerIsAskedAndAsksNobodyFurther) {
  tune_a = [](NodeConfig& config) { config.listen = {"127.0.0.1", 0}; };
  start();
  prefill(3 * kChunk, 1);
  // b asks a; and a asks b, so that a question could go round for ever.
  const HostPort a = a_node->address();
  b_node.reset();
  NodeConfig config = small_node(*b_kv, channel);
  config.tiers.peers = {a};
  auto made = Node::create(std::move(config));
  ASSERT_TRUE(made.ok());
  b_node = std::move(made).value();
  {
    auto d = loader();
    ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 3 * kChunk, 1).ok());
    ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
    EXPECT_EQ(d.wrong(3 * kChunk), 0u);
    EXPECT_EQ(d.session->report().transport, "peer");
    ASSERT_TRUE(d.finish());
  }
  a_node.reset();
  NodeConfig back = small_node(*a_kv, channel);
  back.listen = a;
  back.tiers.peers = {b_node->address()};
  made = Node::create(std::move(back));
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  a_node = std::move(made).value();
  for (const uint32_t prompt : {77u, 78u}) expect_missed(kChunk, prompt);
  // It comes back from b, which has it in its host tier now.
  Decoder d(*a_node, *a_kv);
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 3 * kChunk, 1).ok());
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(3 * kChunk), 0u);
  ASSERT_TRUE(d.finish());
}

TEST_P(StoreTest, AChunkIsGivenOnInTheOrderInWhichItLies) {
  b_shape.heads_first = true;
  start();
  prefill(2 * kChunk, 1);
  start_store();
  // b has it from its peer, in a's order, and gives it to the store.
  NodeConfig config = small_node(*b_kv, channel);
  config.tiers.peers = a_address();
  config.tiers.store = store_address;
  auto made = Node::create(std::move(config));
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  b_node = std::move(made).value();
  {
    auto d = loader();
    ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
    ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
    EXPECT_EQ(d.wrong(2 * kChunk), 0u);
    ASSERT_TRUE(d.finish());
  }
  ASSERT_TRUE(Events().until([&] { return in_store() == 2; }));
  // Whoever loads it from there reads it right, whichever order his own blocks have.
  a_node.reset();
  b_node.reset();
  start_engines();
  expect_loaded(2 * kChunk, 1);
  Decoder d(*a_node, *a_kv);
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(2 * kChunk), 0u);
  ASSERT_TRUE(d.finish());
}

TEST_P(StoreTest, AStoreThatStopsWithChunksOnTheirWayEndsThem) {
  const auto nvme = std::make_shared<MemoryTierState>();
  start_store([&](NodeConfig& config) { with_tier(config, nvme); });
  start_engines();
  keep(2 * kChunk, 1);
  ASSERT_TRUE(Events().until([&] { return nvme->chunks() == 2; }));
  store.reset();
  start_store([&](NodeConfig& config) { with_tier(config, nvme); });
  nvme->hold();
  b_node.reset();
  a_node.reset();
  start();
  auto d = loader();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  ASSERT_TRUE(Events().until([&] { return nvme->held() != 0; }));
  store.reset();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kFailed);
  ASSERT_TRUE(d.finish());
}

TEST(StoreOptions, WhatAStoreCannotBeIsRefusedByName) {
  NodeConfig config;
  config.store = true;
  config.retained_bytes = 0;
  EXPECT_EQ(Node::create(config).status().message(),
            "retained_bytes is 0: a store needs room for at least one chunk");
  config.retained_bytes = 1u << 20;
  config.chunk_bytes = 2u << 20;
  EXPECT_EQ(Node::create(config).status().message(),
            "retained_bytes is 1048576: a store needs room for at least one chunk, 2097152");
  config.chunk_bytes = 0;
  config.tiers.store = HostPort{"127.0.0.1", 9};
  EXPECT_EQ(Node::create(config).status().message(),
            "tiers.store is 127.0.0.1:9: a store has none");
}

}  // namespace
}  // namespace baton::fakes
