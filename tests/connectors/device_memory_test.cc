// Handoffs from and to KV memory that only a copier can reach: no channel touches it, copies are
// under way for a while, and a GPU that fails ends handoffs and nothing else. What a real GPU's
// copier does is in tests/gpu.
#include <gtest/gtest.h>

#include "tests/connectors/two_nodes.h"
#include "tests/fakes/fake_device.h"
#include "transfer/ucx/ucx_endpoint.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

HandoffAttempt handoff() { return {HandoffId::random(), 1}; }

std::vector<ChannelChoice> kinds() {
  std::vector<ChannelChoice> all = {ChannelChoice::kLocal, ChannelChoice::kTcp};
#ifndef BATON_SANITIZED
  if (ucx::available()) all.push_back(ChannelChoice::kUcx);  // as in session_test.cc
#endif
  return all;
}

class DeviceMemory : public TwoNodes, public ::testing::WithParamInterface<ChannelChoice> {
 protected:
  static constexpr uint32_t kTokens = 500;

  // Runs of 1.5 KiB, which tcp sends from blocks and receives into them where it can.
  void start(SendMode mode) {
    channel = GetParam();
    tune_a = [this, mode](NodeConfig& config) {
      config.mode = mode;
      a_device = std::make_unique<FakeDevice>(config.kv, memory_bytes(*a_kv, a_shape));
      a_device->install(config);
    };
    tune_b = [this](NodeConfig& config) {
      b_device = std::make_unique<FakeDevice>(config.kv, memory_bytes(*b_kv, b_shape));
      b_device->install(config);
      config.retain_received = retain_received;
    };
    TwoNodes::start();
  }
  // The devices outlive the nodes.
  void TearDown() override {
    a_node.reset();
    b_node.reset();
  }
  static size_t memory_bytes(const KvEngine& kv, const KvShape& shape) {
    return kv.block_bytes() * shape.blocks * shape.layers;
  }
  uint64_t prompt_bytes() const { return kTokens * a_kv->token_bytes() * a_shape.layers; }
  double chunks_in_tier(Node& node) { return metric(node, R"(baton_tier_chunks{tier="host"})"); }

  bool retain_received = false;
  std::unique_ptr<FakeDevice> a_device, b_device;
};

INSTANTIATE_TEST_SUITE_P(Channels, DeviceMemory, ::testing::ValuesIn(kinds()),
                         [](const auto& info) { return channel_choice_name(info.param); });

TEST_P(DeviceMemory, TransientBytesGoThroughTheCopierAlone) {
  start(SendMode::kTransient);
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), kTokens, 5).ok());
  p.compute();
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), kTokens, 5).ok());
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(kTokens), 0u);
  EXPECT_EQ(b_kv->disturbed(d.blocks, kTokens), 0u);
  EXPECT_TRUE(p.wait_released());
  EXPECT_TRUE(d.finish());
  EXPECT_EQ(copied(*a_node, "gather"), prompt_bytes());
  EXPECT_EQ(copied(*a_node, "sent_from_blocks"), 0);
  EXPECT_EQ(copied(*b_node, "scatter"), prompt_bytes());
  EXPECT_EQ(copied(*b_node, "received_into_blocks"), 0);
  // Everything was computed when it was accepted, so that as much is gathered as is worth it.
  EXPECT_EQ(a_device->most_at_once, int{FakeDevice::kDepth});
}

TEST_P(DeviceMemory, RetainedBytesGoThroughTheCopierAlone) {
  retain_received = true;
  start(SendMode::kRetained);
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), kTokens, 5).ok());
  p.compute();
  EXPECT_TRUE(p.wait_released());  // nobody has accepted: all lies in slots
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), kTokens, 5).ok());
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(kTokens), 0u);
  EXPECT_TRUE(d.finish());
  EXPECT_EQ(copied(*a_node, "gather"), prompt_bytes());
  EXPECT_EQ(copied(*b_node, "scatter"), prompt_bytes());
  EXPECT_EQ(copied(*b_node, "retain_received"), prompt_bytes());
  EXPECT_EQ(a_device->most_at_once, int{FakeDevice::kDepth});
  // And from the decoder's own tier back into its memory.
  auto again_from = prefiller();
  auto again = decoder();
  const HandoffAttempt second = handoff();
  ASSERT_TRUE(again_from.create(second, b_address(), kTokens, 5).ok());
  ASSERT_TRUE(again.create(second, Flow::kPush, a_address(), kTokens, 5).ok());
  again_from.compute();
  ASSERT_TRUE(again.load()) << again.session->poll().why.to_string();
  EXPECT_EQ(again.wrong(kTokens), 0u);
  EXPECT_EQ(copied(*b_node, "tier_load"), prompt_bytes());
  EXPECT_TRUE(again_from.wait_released());
}

TEST_P(DeviceMemory, AGatherThatFailsEndsTheHandoffOnBothSides) {
  for (const SendMode mode : {SendMode::kTransient, SendMode::kRetained}) {
    start(mode);
    a_device->failing_gather = 3;
    auto p = prefiller();
    auto d = decoder();
    const HandoffAttempt h = handoff();
    ASSERT_TRUE(p.create(h, b_address(), kTokens, 5).ok());
    ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), kTokens, 5).ok());
    p.begin();
    ASSERT_TRUE(d.wait(State::kOffered));
    d.accept();
    for (uint32_t l = 0; l < a_shape.layers; ++l) p.layer(l, 0, kTokens);
    p.session->finish();
    EXPECT_TRUE(p.wait_released());
    ASSERT_TRUE(d.wait_over());
    EXPECT_EQ(d.session->poll().state, State::kFailed);
    EXPECT_TRUE(d.finish());
    EXPECT_TRUE(p.released.until([&] { return p.session->report().end == End::kFailed; }));
    EXPECT_NE(p.session->report().why.message().find("fell off the bus"), std::string::npos);
    // The chunk of which a layer was not gathered serves nobody.
    EXPECT_LT(chunks_in_tier(*a_node), (kTokens + 63) / 64);
    p.session.reset();
    d.session.reset();
    TearDown();
  }
}

TEST_P(DeviceMemory, AScatterThatFailsEndsTheHandoffOnBothSides) {
  start(SendMode::kTransient);
  b_device->failing_scatter = 1;  // of the first chunk: nothing of the prompt is loaded then
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), kTokens, 5).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), kTokens, 5).ok());
  p.compute();
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kFailed);
  EXPECT_EQ(d.session->poll().why.code(), Code::kInternal);
  EXPECT_EQ(d.session->report().end, End::kFailed);
  EXPECT_TRUE(d.finish());
  EXPECT_TRUE(p.wait_released());
  EXPECT_EQ(metric(*b_node, R"(baton_checksum_failures_total{where="handoff"})"), 0);
}

TEST_P(DeviceMemory, ALoadFromTheTierThatFailsEndsTheHandoff) {
  retain_received = true;
  start(SendMode::kTransient);
  const auto once = [&](uint32_t first_failing) {
    auto p = prefiller();
    auto d = decoder();
    const HandoffAttempt h = handoff();
    EXPECT_TRUE(p.create(h, b_address(), kTokens, 5).ok());
    EXPECT_TRUE(d.create(h, Flow::kPush, a_address(), kTokens, 5).ok());
    b_device->scatters = 0;
    b_device->failing_scatter = static_cast<int>(first_failing);
    p.compute();
    EXPECT_TRUE(d.wait(State::kOffered));
    d.accept();
    EXPECT_TRUE(d.wait_over());
    const DecodeSession::Poll poll = d.session->poll();
    EXPECT_TRUE(d.finish());
    EXPECT_TRUE(p.wait_released());
    return poll;
  };
  EXPECT_EQ(once(0).state, State::kLoaded);
  const double chunks = chunks_in_tier(*b_node);
  EXPECT_GT(chunks, 0);
  const DecodeSession::Poll failed = once(2);
  EXPECT_EQ(failed.why.code(), Code::kInternal) << failed.why.to_string();
  EXPECT_EQ(chunks_in_tier(*b_node), chunks);  // it is the GPU that failed, not the chunk
}

TEST(DeviceMemoryConfig, ANodeWithoutThatGpuDoesNotStart) {
  KvEngine engine({});
  NodeConfig config = small_node(engine, ChannelChoice::kLocal);
  config.kv.cuda_device = 0;
  const auto node = Node::create(std::move(config));
  ASSERT_FALSE(node.ok());
  // Where there is a GPU, this memory is none of it.
  if (node.status().code() == Code::kInvalidArgument) {
    EXPECT_NE(node.status().message().find("layer 0 lies in host memory"), std::string::npos)
        << node.status().to_string();
  } else {
    EXPECT_EQ(node.status().code(), Code::kUnavailable) << node.status().to_string();
  }
}

}  // namespace
}  // namespace baton::fakes
