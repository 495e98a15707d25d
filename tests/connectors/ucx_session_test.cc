// The session API over two real nodes and the ucx channel.
#include <gtest/gtest.h>

#include "tests/connectors/two_nodes.h"
#include "transfer/ucx/ucx_endpoint.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

HandoffAttempt handoff() { return {HandoffId::random(), 1}; }

class UcxSession : public TwoNodes {
 protected:
  void SetUp() override {
    if (!ucx::available()) GTEST_SKIP() << "skipped: no UCX";
  }
  void start_over_ucx(SendMode mode) {
    tune_a = [mode](NodeConfig& config) {
      config.channel = ChannelChoice::kUcx;
      config.mode = mode;
    };
    tune_b = tune_a;
    start();
  }
};

struct Case {
  uint32_t tokens;
  SendMode mode;
};
class UcxPush : public UcxSession, public ::testing::WithParamInterface<Case> {};

TEST_P(UcxPush, EveryByteArrivesAndNoOther) {
  a_shape.block_tokens = 16;
  b_shape.block_tokens = 32;
  b_shape.heads_first = true;
  const auto [tokens, mode] = GetParam();
  start_over_ucx(mode);
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), tokens, 5).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), tokens, 5).ok());
  p.compute(37);
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(tokens), 0u);
  EXPECT_EQ(b_kv->disturbed(d.blocks, tokens), 0u);
  EXPECT_TRUE(p.wait_released());
  EXPECT_TRUE(d.finish());
  const HandoffReport report = d.session->report();
  EXPECT_EQ(report.end, End::kCommitted);
  EXPECT_EQ(report.bytes, uint64_t{tokens} * a_kv->token_bytes() * a_shape.layers);
  EXPECT_EQ(report.transport, "ucx:tcp");
}

INSTANTIATE_TEST_SUITE_P(Modes, UcxPush,
                         ::testing::Values(Case{1, SendMode::kRetained},
                                           Case{200, SendMode::kTransient},
                                           Case{511, SendMode::kRetained},
                                           Case{511, SendMode::kTransient}));

TEST_F(UcxSession, ANodeThatStopsInMidTransferEndsItsHandoffs) {
  start_over_ucx(SendMode::kTransient);
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 500, 3).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 500, 3).ok());
  p.begin();
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  for (uint32_t l = 0; l < a_shape.layers; ++l) p.layer(l, 0, 256);
  p.session.reset();
  a_node.reset();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kFailed);
}

TEST(UcxNode, AsksForWhatThereIs) {
  KvEngine engine(KvShape{});
  NodeConfig config = small_node(engine);
  config.channel = ChannelChoice::kUcx;
  config.ucx.transports = "dc_mlx5";
  const auto node = Node::create(std::move(config));
  ASSERT_FALSE(node.ok());
  EXPECT_NE(node.status().message().find("channel ucx"), std::string::npos)
      << node.status().message();
}

}  // namespace
}  // namespace baton::fakes
