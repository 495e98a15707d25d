// Handoffs from a GPU's memory into a GPU's memory, over every channel, through real nodes.
#include "tests/connectors/two_nodes.h"
#include "tests/gpu/gpu_fixture.h"
#include "transfer/ucx/ucx_endpoint.h"

namespace baton::gpu {
namespace {

using fakes::copied;
using protocol::End;
using protocol::Flow;

struct Case {
  ChannelChoice channel;
  SendMode mode;
  bool heads_first;  // the receiver's blocks
};

std::vector<Case> all_cases() {
  std::vector<ChannelChoice> channels = {ChannelChoice::kLocal, ChannelChoice::kTcp};
  if (ucx::available()) channels.push_back(ChannelChoice::kUcx);
  std::vector<Case> out;
  for (const ChannelChoice channel : channels)
    for (const SendMode mode : {SendMode::kTransient, SendMode::kRetained})
      for (const bool heads_first : {false, true}) out.push_back({channel, mode, heads_first});
  return out;
}

class HandoffTest : public fakes::TwoNodes, public ::testing::WithParamInterface<Case> {
 protected:
  static constexpr uint32_t kTokens = 500;

  void SetUp() override { BATON_NEEDS_GPU(); }
  void TearDown() override {
    a_node.reset();
    b_node.reset();
  }
  static std::unique_ptr<Mirror> onto_gpu(KvMemory& kv, size_t bytes) {
    std::byte* const host = kv.layer_base[0];
    auto mirror = std::make_unique<Mirror>(host, bytes);
    for (std::byte*& base : kv.layer_base) base = mirror->on_device(base);
    kv.cuda_device = 0;
    return mirror;
  }
  static size_t memory_bytes(const fakes::KvEngine& kv, const fakes::KvShape& shape) {
    return kv.block_bytes() * shape.blocks * shape.layers;
  }

  std::unique_ptr<Mirror> a_gpu, b_gpu;
};

INSTANTIATE_TEST_SUITE_P(All, HandoffTest, ::testing::ValuesIn(all_cases()), [](const auto& info) {
  return std::string(channel_choice_name(info.param.channel)) +
         (info.param.mode == SendMode::kRetained ? "Retained" : "Transient") +
         (info.param.heads_first ? "IntoHeadsFirst" : "");
});

TEST_P(HandoffTest, EveryByteArrivesAndNoOther) {
  const Case c = GetParam();
  channel = c.channel;
  b_shape.heads_first = c.heads_first;
  tune_a = [&](NodeConfig& config) {
    config.mode = c.mode;
    a_gpu = onto_gpu(config.kv, memory_bytes(*a_kv, a_shape));
  };
  tune_b = [&](NodeConfig& config) { b_gpu = onto_gpu(config.kv, memory_bytes(*b_kv, b_shape)); };
  start();
  if (HasFatalFailure()) return;
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h{HandoffId::random(), 1};
  ASSERT_TRUE(p.create(h, b_address(), kTokens, 5).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), kTokens, 5).ok());
  p.begin();
  for (uint32_t l = 0; l < a_shape.layers; ++l) a_kv->fill(l, p.blocks, 0, kTokens, p.prompt);
  a_gpu->upload();
  for (uint32_t l = 0; l < a_shape.layers; ++l) p.session->layer_ready(l, kTokens);
  p.session->finish();
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  b_gpu->download();
  EXPECT_EQ(d.wrong(kTokens), 0u);
  EXPECT_EQ(b_kv->disturbed(d.blocks, kTokens), 0u);
  EXPECT_TRUE(p.wait_released());
  EXPECT_TRUE(d.finish());
  EXPECT_EQ(d.session->report().end, End::kCommitted);
  const uint64_t bytes = kTokens * a_kv->token_bytes() * a_shape.layers;
  EXPECT_EQ(copied(*a_node, "gather"), bytes);
  EXPECT_EQ(copied(*b_node, "scatter"), bytes);
  EXPECT_EQ(copied(*a_node, "bounced"), 0);  // slots and staging memory are pinned
  // What came lies in memory that is not: another process's, the channel's own, or UCX's.
  EXPECT_EQ(copied(*b_node, "bounced"), bytes);
  EXPECT_EQ(copied(*a_node, "sent_from_blocks") + copied(*b_node, "received_into_blocks"), 0);
}

}  // namespace
}  // namespace baton::gpu
