// Handoffs from and to KV memory that only a copier can reach: no channel touches it, copies are
// under way for a while, and a GPU that fails ends handoffs and nothing else. What a real GPU's
// copier does is in tests/gpu.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "tests/connectors/two_nodes.h"
#include "tests/fakes/fake_device.h"
#include "transfer/node_impl.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

// Who ends a handoff while its bytes are being copied.
enum class EndedBy : uint8_t { kSender, kReceiver, kLostConnection };
constexpr EndedBy kAllEnds[] = {EndedBy::kSender, EndedBy::kReceiver, EndedBy::kLostConnection};

class DeviceMemory : public TwoNodes, public ::testing::WithParamInterface<ChannelChoice> {
 protected:
  static constexpr uint32_t kTokens = 500;

  // Runs of 1.5 KiB, which tcp sends from blocks and receives into them where it can.
  void start(SendMode mode) {
    channel = GetParam();
    tune_a = [this, mode](NodeConfig& config) {
      config.mode = mode;
      if (retained_chunks != 0)
        config.retained_bytes = retained_chunks * 64 * a_kv->token_bytes() * a_shape.layers;
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
    for (const auto& device : {&a_device, &b_device})
      if (*device) (*device)->gate.open();
    a_node.reset();
    b_node.reset();
  }
  static size_t memory_bytes(const KvEngine& kv, const KvShape& shape) {
    return kv.block_bytes() * shape.blocks * shape.layers;
  }
  uint64_t prompt_bytes() const { return kTokens * a_kv->token_bytes() * a_shape.layers; }
  double chunks_in_tier(Node& node) { return metric(node, R"(baton_tier_chunks{tier="host"})"); }

  // What the node says of itself; what was posted to its progress thread before has run by then.
  static nlohmann::json view(Node& node) {
    auto seen = node.impl().debug_handoffs(std::chrono::seconds(20));
    EXPECT_TRUE(seen.ok()) << seen.status().to_string();
    return seen.ok() ? *seen : nlohmann::json();
  }
  // Slots of which somebody reads or writes, of both pools.
  static uint64_t taken_slots(Node& node) {
    const nlohmann::json slots = view(node)["slots"];
    return slots["total"].get<uint64_t>() - slots["free"].get<uint64_t>();
  }
  // The control connection breaks, which a dialled: each node is gone for the other.
  void cut() {
    int cuts = 0;
    for (int fd = 0; fd < 1024; ++fd) {
      sockaddr_in peer{};
      socklen_t length = sizeof(peer);
      if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0 ||
          peer.sin_family != AF_INET || ntohs(peer.sin_port) != b_node->address().port)
        continue;
      cuts += ::shutdown(fd, SHUT_RDWR) == 0;
    }
    EXPECT_GT(cuts, 0);
  }
  void end(EndedBy who, Prefiller& p, Decoder& d) {
    if (who == EndedBy::kSender) p.session->abort("enough");
    if (who == EndedBy::kReceiver) d.session->abort("enough");
    if (who == EndedBy::kLostConnection) cut();
  }
  // A handoff whose bytes are on their way, as far as the closed gates let them; its prefiller goes
  // on, so that its engine may still abort.
  void run_into_the_gate(Prefiller& p, Decoder& d, const HandoffAttempt& h = handoff()) {
    ASSERT_TRUE(p.create(h, b_address(), kTokens, 5).ok());
    ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), kTokens, 5).ok());
    p.begin();
    ASSERT_TRUE(d.wait(State::kOffered));
    d.accept();
    ASSERT_TRUE(d.wait(State::kLoading));
    for (uint32_t l = 0; l < a_shape.layers; ++l) p.layer(l, 0, kTokens);
  }
  void end_while_gathering(SendMode mode, EndedBy who);
  void end_while_scattering(SendMode mode, EndedBy who);

  bool retain_received = false;
  size_t retained_chunks = 0;  // slots of a; 0: enough
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

// An engine goes on computing, and gets its blocks back; the GPU is left alone.
TEST_P(DeviceMemory, AfterAGatherThatFailedNothingIsGathered) {
  for (const bool with_peer : {true, false}) {
    SCOPED_TRACE(with_peer ? "push" : "for nobody yet");
    start(SendMode::kRetained);
    a_device->failing_gather = 1;
    auto p = prefiller();
    ASSERT_TRUE(
        p.create(handoff(), with_peer ? b_address() : std::vector<HostPort>{}, kTokens, 5).ok());
    p.begin();
    p.layer(0, 0, kTokens);
    // Those that were under way with it come back behind it.
    const int gathers = FakeDevice::kDepth;
    const double others = (gathers - 1) * 64.0 * a_kv->token_bytes();
    ASSERT_TRUE(p.released.until([&] { return copied(*a_node, "gather") == others; }));
    EXPECT_EQ(a_device->gathers, gathers);
    p.layer(1, 0, kTokens);
    p.layer(2, 0, kTokens);
    view(*a_node);
    EXPECT_EQ(p.released.seen(), 0);
    p.session->finish();
    EXPECT_TRUE(p.wait_released());
    EXPECT_EQ(a_device->gathers, gathers);
    EXPECT_TRUE(p.released.until([&] { return p.session->report().end == End::kFailed; }));
    EXPECT_TRUE(p.released.until([&] { return taken_slots(*a_node) == 0; }));
    p.session.reset();
    TearDown();
  }
}

// One chunk finds a slot, the next one goes through staging memory, where its gather fails: the
// first is not gathered on.
TEST_P(DeviceMemory, AfterAFailedGatherIntoStagingMemoryNothingIsGatheredIntoSlots) {
  retained_chunks = 1;
  start(SendMode::kRetained);
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 2 * 64, 5).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 2 * 64, 5).ok());
  p.begin();
  p.layer(0, 0, 2 * 64);
  ASSERT_TRUE(p.released.until([&] { return a_device->gathers == 1; }));
  a_device->failing_gather = 2;
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  ASSERT_TRUE(p.released.until([&] { return p.session->report().end == End::kFailed; }));
  p.layer(1, 0, 2 * 64);
  p.layer(2, 0, 2 * 64);
  p.session->finish();
  EXPECT_TRUE(p.wait_released());
  EXPECT_EQ(a_device->gathers, 2);
  EXPECT_TRUE(d.wait_over());
  EXPECT_TRUE(d.finish());
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

// The GPU may read the blocks, and write the slots, until the copy has come back.
void DeviceMemory::end_while_gathering(SendMode mode, EndedBy who) {
  start(mode);
  a_device->gate.close();
  auto p = prefiller();
  auto d = decoder();
  run_into_the_gate(p, d);
  ASSERT_TRUE(p.released.until([&] { return a_device->gate.waiting() == FakeDevice::kDepth; }));
  const uint64_t taken = taken_slots(*a_node);
  EXPECT_GE(taken, uint64_t{FakeDevice::kDepth});
  end(who, p, d);
  ASSERT_TRUE(p.released.until([&] { return p.session->report().end.has_value(); }));
  EXPECT_EQ(p.session->report().end,
            who == EndedBy::kLostConnection ? End::kFailed : End::kCancelled);
  p.session->finish();
  EXPECT_EQ(taken_slots(*a_node), taken);
  EXPECT_EQ(p.released.seen(), 0);
  EXPECT_EQ(copied(*a_node, "gather"), 0);

  a_device->gate.open();
  EXPECT_TRUE(p.wait_released());
  // What is whole serves a retry, the rest is free.
  EXPECT_TRUE(p.released.until([&] { return taken_slots(*a_node) == chunks_in_tier(*a_node); }));
  const bool kept = mode == SendMode::kRetained && who != EndedBy::kSender;
  EXPECT_EQ(chunks_in_tier(*a_node), kept ? (kTokens + 63) / 64 : 0);
}

TEST_P(DeviceMemory, WhoeverEndsAHandoffItsBlocksAreKeptWhileTheyAreGathered) {
  for (const SendMode mode : {SendMode::kTransient, SendMode::kRetained})
    for (const EndedBy who : kAllEnds) {
      SCOPED_TRACE(testing::Message() << "mode " << int(mode) << ", ended by " << int(who));
      end_while_gathering(mode, who);
      TearDown();
    }
}

// The prefiller's engine has answered and its decoder is gone. Another one fetches, sooner than the
// last gather is back.
TEST_P(DeviceMemory, ARetryThatFetchesWaitsForWhatIsStillGathered) {
  start(SendMode::kRetained);
  a_device->gate.close();
  auto p = prefiller();
  auto gone = decoder();
  HandoffAttempt h = handoff();
  run_into_the_gate(p, gone, h);
  p.session->finish();
  gone.session->abort("its engine is gone");
  ASSERT_TRUE(p.released.until([&] { return p.session->report().end.has_value(); }));
  h.attempt = 2;
  auto retry = decoder();
  ASSERT_TRUE(retry.create(h, Flow::kFetch, a_address(), kTokens, 5).ok());
  // What is asked later over the same connection, of another handoff, does not wait.
  auto later = decoder();
  ASSERT_TRUE(later.create(handoff(), Flow::kFetch, a_address(), kTokens, 77).ok());
  ASSERT_TRUE(later.wait(State::kFailed));
  EXPECT_EQ(later.session->poll().why.code(), Code::kNotFound);
  EXPECT_EQ(retry.session->poll().state, State::kWaiting);

  a_device->gate.open();
  ASSERT_TRUE(retry.load()) << retry.session->poll().why.to_string();
  EXPECT_EQ(retry.session->poll().tokens, kTokens);
  EXPECT_EQ(retry.wrong(kTokens), 0u);
  EXPECT_TRUE(retry.finish());
  EXPECT_TRUE(gone.finish());
  EXPECT_TRUE(p.wait_released());
}

// The GPU may write the blocks, and read what was received, until the copy has come back.
void DeviceMemory::end_while_scattering(SendMode mode, EndedBy who) {
  start(mode);
  b_device->gate.close();
  auto p = prefiller();
  auto d = decoder();
  run_into_the_gate(p, d);
  ASSERT_TRUE(d.changed.until([&] { return b_device->gate.waiting() >= 2; }));
  end(who, p, d);
  ASSERT_TRUE(d.changed.until([&] { return view(*b_node)["handoffs"].at(0)["state"] == "ended"; }));
  EXPECT_EQ(d.session->poll().state, State::kLoading);
  EXPECT_EQ(d.released.seen(), 0);
  EXPECT_EQ(copied(*b_node, "scatter"), 0);

  b_device->gate.open();
  if (who != EndedBy::kReceiver) {
    EXPECT_TRUE(d.wait(State::kFailed));
    EXPECT_EQ(d.released.seen(), 0);  // the engine has not said that it is done
  }
  EXPECT_TRUE(d.finish());
  EXPECT_GE(copied(*b_node, "scatter"), 2 * 64 * b_kv->token_bytes());
  // What was received stayed as long: every copy found the bytes that had come.
  EXPECT_EQ(metric(*b_node, R"(baton_checksum_failures_total{where="handoff"})"), 0);
}

TEST_P(DeviceMemory, WhoeverEndsAHandoffItsBlocksAreKeptWhileTheyAreScatteredInto) {
  for (const SendMode mode : {SendMode::kTransient, SendMode::kRetained})
    for (const EndedBy who : kAllEnds) {
      SCOPED_TRACE(testing::Message() << "mode " << int(mode) << ", ended by " << int(who));
      end_while_scattering(mode, who);
      TearDown();
    }
}

TEST_P(DeviceMemory, CopiesMayComeBackInAnyOrder) {
  for (const SendMode mode : {SendMode::kTransient, SendMode::kRetained}) {
    SCOPED_TRACE(testing::Message() << "mode " << int(mode));
    start(mode);
    a_device->gate.close();
    b_device->gate.close();
    auto p = prefiller();
    auto d = decoder();
    run_into_the_gate(p, d);
    p.session->finish();
    ASSERT_TRUE(p.released.until([&] { return a_device->gate.waiting() == FakeDevice::kDepth; }));
    a_device->gate.let_go_backwards();
    ASSERT_TRUE(d.changed.until([&] { return b_device->gate.waiting() >= 2; }));
    EXPECT_TRUE(d.changed.until([&] {
      a_device->gate.let_go_backwards();
      b_device->gate.let_go_backwards();
      return d.session->poll().state != State::kLoading;
    }));
    EXPECT_EQ(d.session->poll().state, State::kLoaded) << d.session->poll().why.to_string();
    EXPECT_EQ(d.wrong(kTokens), 0u);
    EXPECT_EQ(b_kv->disturbed(d.blocks, kTokens), 0u);
    EXPECT_TRUE(p.wait_released());
    EXPECT_TRUE(d.finish());
    EXPECT_EQ(d.session->report().end, End::kCommitted);
    EXPECT_EQ(copied(*a_node, "gather"), prompt_bytes());
    EXPECT_EQ(copied(*b_node, "scatter"), prompt_bytes());
    p.session.reset();
    d.session.reset();
    TearDown();
  }
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
