// The session API over two real nodes and each channel: what arrives, what is copied, what is
// released, and how each handoff ends.
#include <gtest/gtest.h>

#include "tests/connectors/two_nodes.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

struct Case {
  uint32_t a_block, b_block, tokens, step;
  bool a_heads_first, b_heads_first;
  SendMode mode;
};

class Push : public TwoNodes,
             public ::testing::WithParamInterface<std::tuple<Case, ChannelChoice>> {};

TEST_P(Push, EveryByteArrivesAndNoOther) {
  const auto [c, kind] = GetParam();
  channel = kind;
  a_shape.block_tokens = c.a_block;
  b_shape.block_tokens = c.b_block;
  a_shape.heads_first = c.a_heads_first;
  b_shape.heads_first = c.b_heads_first;
  tune_a = [mode = c.mode](NodeConfig& config) { config.mode = mode; };
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), c.tokens, 5).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), c.tokens, 5).ok());
  p.compute(c.step);
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.session->poll().tokens, c.tokens);
  EXPECT_EQ(d.wrong(c.tokens), 0u);
  EXPECT_EQ(b_kv->disturbed(d.blocks, c.tokens), 0u);
  EXPECT_TRUE(p.wait_released());
  EXPECT_TRUE(d.finish());
  const uint64_t bytes = uint64_t{c.tokens} * a_kv->token_bytes() * a_shape.layers;
  const HandoffReport report = d.session->report();
  EXPECT_EQ(report.end, End::kCommitted);
  EXPECT_EQ(report.bytes, bytes);
  EXPECT_EQ(report.transport,
            channel == ChannelChoice::kUcx ? "ucx:tcp" : channel_choice_name(channel));
  // One copy out of the engine, one into it, none else; by the system where the channel sends from
  // blocks and receives into them.
  const bool by_system = channel == ChannelChoice::kTcp;
  const bool packed = !by_system || c.mode == SendMode::kRetained;
  EXPECT_EQ(copied(*a_node, "gather"), packed ? bytes : 0);
  EXPECT_EQ(copied(*a_node, "sent_from_blocks"), packed ? 0 : bytes);
  EXPECT_EQ(copied(*b_node, "scatter") + copied(*b_node, "received_into_blocks"), bytes);
  if (by_system && c.a_heads_first == c.b_heads_first && c.b_block >= 16) {  // long runs
    EXPECT_EQ(copied(*b_node, "received_into_blocks"), bytes);
  }
  EXPECT_EQ(copied(*b_node, "retain_received"), 0);
  EXPECT_TRUE(p.released.until([&] { return p.session->report().end == End::kCommitted; }));
}

const auto kKinds = ::testing::ValuesIn(kinds());

INSTANTIATE_TEST_SUITE_P(
    Layouts, Push,
    ::testing::Combine(::testing::Values(Case{16, 16, 1, 64, false, false, SendMode::kRetained},
                                         Case{16, 32, 64, 64, false, false, SendMode::kTransient},
                                         Case{32, 16, 65, 32, true, false, SendMode::kRetained},
                                         Case{16, 16, 200, 37, false, true, SendMode::kTransient},
                                         Case{64, 8, 500, 500, true, true, SendMode::kTransient},
                                         Case{8, 64, 511, 100, true, false, SendMode::kRetained}),
                       kKinds));

class Session : public TwoNodes, public ::testing::WithParamInterface<ChannelChoice> {
 protected:
  void SetUp() override { channel = GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Channels, Session, kKinds, [](const auto& info) {
  return std::string(channel_choice_name(info.param));
});

TEST_P(Session, LayersComeWhileLaterOnesAreStillComputed) {
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 150, 1).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 150, 1).ok());
  p.begin();
  p.layer(0, 0, 150);
  p.layer(1, 0, 150);
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  EXPECT_TRUE(d.session->wait_layer(0, std::chrono::seconds(20)).ok());
  EXPECT_TRUE(d.session->wait_layer(1, std::chrono::seconds(20)).ok());
  EXPECT_EQ(d.session->poll().state, State::kLoading);
  EXPECT_EQ(d.session->wait_layer(2, std::chrono::milliseconds(1)).code(), Code::kDeadlineExceeded);
  p.layer(2, 0, 150);
  p.session->finish();
  EXPECT_TRUE(d.session->wait_layer(2, std::chrono::seconds(20)).ok());
  ASSERT_TRUE(d.wait(State::kLoaded));
  EXPECT_EQ(d.wrong(150), 0u);
}

TEST_P(Session, DecoderThatAcceptsLateDelaysOnlyTheRelease) {
  tune_a = [](NodeConfig& config) { config.mode = SendMode::kTransient; };
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 300, 1).ok());
  p.compute();
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 300, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  EXPECT_EQ(p.released.seen(), 0);  // the bytes are nowhere but in the engine's blocks
  d.accept();
  ASSERT_TRUE(d.wait(State::kLoaded));
  EXPECT_TRUE(p.wait_released());
}

TEST_P(Session, BlocksThatAreRevokedEndAFinishedHandoffThatNeedsThem) {
  tune_a = [](NodeConfig& config) { config.mode = SendMode::kTransient; };
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 300, 1).ok());
  p.compute();
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 300, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  p.session->abort("nothing after finish()");
  EXPECT_EQ(p.released.seen(), 0);
  p.session->revoke("preempted");
  EXPECT_TRUE(p.wait_released());
  ASSERT_TRUE(d.wait(State::kFailed));
  const std::string why = d.session->poll().why.message();
  EXPECT_NE(why.find("preempted"), std::string::npos) << why;
}

TEST_P(Session, RevokedBlocksThatNobodyNeedsEndNothing) {
  start();
  auto p = prefiller();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 300, 1).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  p.session->revoke("preempted");
  auto d = decoder();
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 300, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.wrong(300), 0u);
}

TEST_P(Session, RetainedChunksFreeTheBlocksBeforeAnybodyAccepts) {
  start();
  auto p = prefiller();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 300, 1).ok());
  p.compute();
  EXPECT_TRUE(
      p.released.until([&] { return metric(*a_node, R"(baton_tier_chunks{tier="host"})") == 5; }));
  auto d = decoder();
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 300, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.wrong(300), 0u);
}

TEST_P(Session, WhatTheHostTierHoldsDoesNotCross) {
  tune_b = [](NodeConfig& config) { config.retain_received = true; };
  start();
  const uint64_t chunk = 64 * a_kv->token_bytes() * a_shape.layers;
  for (int round = 0; round < 2; ++round) {
    auto p = prefiller();
    auto d = decoder();
    const HandoffAttempt h = handoff();
    // The second prompt continues the first: two whole chunks are the same, the tail is not.
    const uint32_t tokens = round == 0 ? 150 : 200;
    ASSERT_TRUE(p.create(h, b_address(), tokens, 9).ok());
    ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), tokens, 9).ok());
    p.compute();
    ASSERT_TRUE(d.load());
    EXPECT_EQ(d.wrong(tokens), 0u);
    EXPECT_EQ(d.session->report().bytes, round == 0 ? 150 * a_kv->token_bytes() * a_shape.layers
                                                    : 72 * a_kv->token_bytes() * a_shape.layers);
    EXPECT_EQ(d.session->report().held_tokens, round == 0 ? 0u : 128u);
    EXPECT_TRUE(p.wait_released());
    EXPECT_TRUE(d.finish());
  }
  EXPECT_EQ(copied(*b_node, "tier_load"), 2 * chunk);
  // The prefiller's own tier had the two chunks as well: it gathered only what was new.
  EXPECT_EQ(copied(*a_node, "gather"), (150 + 72) * a_kv->token_bytes() * a_shape.layers);
}

TEST_P(Session, WhatEngineAndHostTierBothHoldCountsOnce) {
  tune_b = [](NodeConfig& config) { config.retain_received = true; };
  start();
  for (const uint32_t held : {0u, 100u}) {
    auto p = prefiller();
    auto d = decoder();
    const HandoffAttempt h = handoff();
    ASSERT_TRUE(p.create(h, b_address(), 150, 9).ok());
    ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 150, 9).ok());
    p.compute();
    ASSERT_TRUE(d.wait(State::kOffered));
    d.accept(held);  // one chunk wholly, the second in part
    ASSERT_TRUE(d.wait(State::kLoaded));
    EXPECT_EQ(d.session->report().held_tokens, held == 0 ? 0u : 150u);
    EXPECT_TRUE(p.wait_released());
    EXPECT_TRUE(d.finish());
  }
}

TEST_P(Session, TokensThatTheEngineHoldsAreVerifiedButNotWritten) {
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 200, 3).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 200, 3).ok());
  p.compute();
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept(100);  // one chunk wholly, the second in part
  ASSERT_TRUE(d.wait(State::kLoaded));
  EXPECT_EQ(d.session->report().bytes, 136 * a_kv->token_bytes() * a_shape.layers);
  EXPECT_EQ(b_kv->wrong(d.blocks, 100, 200, 3), 0u);
  for (uint32_t l = 0; l < 3; ++l) b_kv->fill(l, d.blocks, 100, 200, 1000);
  // Tokens before 100 are still poison: nothing of them was written.
  std::vector<std::byte> poison(b_kv->block_bytes(), KvEngine::kPoison);
  EXPECT_EQ(std::memcmp(b_kv->kv().layer_base[0] + d.blocks[2] * b_kv->block_bytes(), poison.data(),
                        poison.size()),
            0);
}

TEST_P(Session, FetchHitsHitsInPartAndMisses) {
  start();
  const HandoffAttempt held = handoff();
  {
    auto p = prefiller();  // two-step flow: nobody to send to yet
    ASSERT_TRUE(p.create(held, {}, 150, 4).ok());
    p.compute();
    EXPECT_TRUE(p.wait_released());
  }
  auto whole = decoder();
  ASSERT_TRUE(whole.create(held, Flow::kFetch, a_address(), 150, 4).ok());
  ASSERT_TRUE(whole.load()) << whole.session->poll().why.to_string();
  EXPECT_EQ(whole.session->poll().tokens, 150u);
  EXPECT_EQ(whole.wrong(150), 0u);
  EXPECT_TRUE(whole.finish());

  auto part = decoder();  // the same beginning, but longer: the tail chunk is another
  ASSERT_TRUE(part.create(handoff(), Flow::kFetch, a_address(), 400, 4).ok());
  ASSERT_TRUE(part.wait(State::kOffered));
  EXPECT_EQ(part.session->poll().tokens, 128u);  // so blocks for these are enough
  part.blocks = b_kv->allocate(128);
  ASSERT_TRUE(part.load());
  EXPECT_EQ(part.session->poll().tokens, 128u);
  EXPECT_EQ(part.wrong(128), 0u);
  EXPECT_TRUE(part.finish());

  auto miss = decoder();
  ASSERT_TRUE(miss.create(handoff(), Flow::kFetch, a_address(), 100, 77).ok());
  ASSERT_TRUE(miss.wait_over());
  EXPECT_EQ(miss.session->poll().state, State::kFailed);
  EXPECT_EQ(miss.session->poll().why.code(), Code::kNotFound);
}

// An engine that loads its own earlier prompts back.
TEST_P(Session, OwnHostTierIsAskedLikeAHolderAndNobodyElse) {
  start();
  {
    auto p = prefiller();
    ASSERT_TRUE(p.create(handoff(), {}, 150, 4, std::chrono::seconds(30), Duration::zero()).ok());
    p.compute();
    EXPECT_TRUE(p.wait_released());
    // Kept, and not held: the tier may let go of it.
    EXPECT_TRUE(p.released.until([&] { return p.session->report().end == End::kCommitted; }));
  }
  EXPECT_EQ(metric(*a_node, R"(baton_tier_chunks{tier="host"})"), 3);
  Decoder whole(*a_node, *a_kv);
  ASSERT_TRUE(whole.create(handoff(), Flow::kFetch, {}, 150, 4).ok());
  ASSERT_TRUE(whole.load()) << whole.session->poll().why.to_string();
  EXPECT_EQ(whole.wrong(150), 0u);
  const HandoffReport report = whole.session->report();
  EXPECT_EQ(report.end, End::kCommitted);
  EXPECT_EQ(report.transport, "host");
  EXPECT_EQ(report.bytes, 0u);
  EXPECT_EQ(report.held_tokens, 150u);
  EXPECT_TRUE(whole.finish());

  Decoder part(*a_node, *a_kv);  // a longer prompt, of which the engine has some tokens itself
  ASSERT_TRUE(part.create(handoff(), Flow::kFetch, {}, 400, 4).ok());
  ASSERT_TRUE(part.wait(State::kOffered));
  EXPECT_EQ(part.session->poll().tokens, 128u);
  part.blocks = a_kv->allocate(400);
  a_kv->fill(0, part.blocks, 0, 32, 77);
  part.accept(32);
  ASSERT_TRUE(part.wait(State::kLoaded));
  EXPECT_EQ(a_kv->wrong(part.blocks, 32, 128, 4), 0u);
  EXPECT_TRUE(part.finish());

  Decoder miss(*a_node, *a_kv);
  ASSERT_TRUE(miss.create(handoff(), Flow::kFetch, {}, 100, 77).ok());
  ASSERT_TRUE(miss.wait_over());
  EXPECT_EQ(miss.session->poll().state, State::kFailed);
  EXPECT_EQ(miss.session->poll().why.code(), Code::kNotFound);
  EXPECT_TRUE(miss.finish());

  Decoder aborted(*a_node, *a_kv);
  ASSERT_TRUE(aborted.create(handoff(), Flow::kFetch, {}, 150, 4).ok());
  ASSERT_TRUE(aborted.wait(State::kOffered));
  aborted.session->abort("the client has left");
  EXPECT_TRUE(aborted.released.until([&] { return aborted.released.seen() == 1; }));
}

TEST_P(Session, AFetchThatIsNotServedIsToldWhy) {
  tune_a = [](NodeConfig& c) { c.max_handoffs = 2; };
  start();
  const HandoffAttempt held = handoff();
  auto p = prefiller();
  ASSERT_TRUE(p.create(held, {}, 64, 4).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  const auto why_of = [&](Decoder& d, const HandoffAttempt& h) {
    EXPECT_TRUE(d.create(h, Flow::kFetch, a_address(), 64, 4).ok());
    EXPECT_TRUE(d.wait_over());
    EXPECT_EQ(d.session->poll().why.code(), Code::kRefused);
    return d.session->poll().why.message();
  };
  // As many as the node takes: the holder, whose lease runs, and one that is being fetched.
  auto first = decoder();
  const HandoffAttempt other = handoff();
  ASSERT_TRUE(first.create(other, Flow::kFetch, a_address(), 64, 4).ok());
  ASSERT_TRUE(first.wait(State::kOffered));
  auto second = decoder();
  EXPECT_EQ(why_of(second, handoff()).find("limit"), 0u) << second.session->poll().why.message();
  first.session->abort("enough");
  ASSERT_TRUE(first.released.until([&] {
    return metric(*a_node, R"(baton_handoffs_total{channel="none",end="cancelled"})") == 1;
  }));
  // Another node asks for an attempt that has ended here.
  KvEngine c_kv(b_shape, 3);
  auto c_node = Node::create(small_node(c_kv, channel));
  ASSERT_TRUE(c_node.ok());
  Decoder late{**c_node, c_kv};
  EXPECT_EQ(why_of(late, other).find("cancelled"), 0u) << late.session->poll().why.message();
}

TEST_P(Session, FetchFromNobodyFailsAtOnce) {
  start();
  auto d = decoder();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {{"127.0.0.1", 1}}, 100, 1).ok());
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kFailed);
  EXPECT_TRUE(d.finish());
}

TEST_P(Session, AnOfferWithOtherKeysIsRefusedNamingBoth) {
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 150, 1).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 150, 2).ok());
  p.compute();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kFailed);
  const std::string why = d.session->poll().why.message();
  const auto root = root_key(a_node->config().fingerprint, "", "");
  for (const uint32_t prompt : {1u, 2u}) {
    const std::vector<uint32_t> tokens = prompt_tokens(150, prompt);
    const ChunkKey key = next_key(root, std::span(tokens).first(64));
    EXPECT_NE(why.find(key.to_hex().substr(0, 16)), std::string::npos) << why;
  }
  EXPECT_TRUE(p.wait_released());
  EXPECT_TRUE(p.released.until([&] { return p.session->report().end == End::kRefused; }));
}

TEST_P(Session, HandshakeRefusalsNameBothValues) {
  struct Mismatch {
    const char* what;
    std::function<void(NodeConfig&)> tune;
    std::vector<std::string> words;
  };
  const std::vector<Mismatch> cases = {
      {"model", [](NodeConfig& c) { c.fingerprint.model = "other"; }, {"model", "test", "other"}},
      {"dtype", [](NodeConfig& c) { c.fingerprint.dtype = "half"; }, {"dtype", "bytes", "half"}},
      {"chunk", [](NodeConfig& c) { c.chunk_tokens = 128; }, {"64", "128"}},
      {"layout", [](NodeConfig& c) { c.fingerprint.opaque_layout = "packed"; }, {"packed"}},
  };
  for (const Mismatch& mismatch : cases) {
    SCOPED_TRACE(mismatch.what);
    tune_b = mismatch.tune;
    start();
    auto p = prefiller();
    ASSERT_TRUE(p.create(handoff(), b_address(), 10, 1).ok());
    p.compute();
    ASSERT_TRUE(p.released.until([&] { return p.session->report().end.has_value(); }));
    const HandoffReport report = p.session->report();
    for (const std::string& word : mismatch.words)
      EXPECT_NE(report.why.message().find(word), std::string::npos) << report.why.message();
    EXPECT_TRUE(p.wait_released());
  }
}

TEST_P(Session, EngineRefusesWithAReason) {
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 150, 1).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 150, 1).ok());
  p.compute();
  ASSERT_TRUE(d.wait(State::kOffered));
  d.session->refuse("all 64 blocks are taken");
  ASSERT_TRUE(d.wait(State::kFailed));
  ASSERT_TRUE(p.released.until([&] { return p.session->report().end == End::kRefused; }));
  EXPECT_NE(p.session->report().why.message().find("all 64 blocks are taken"), std::string::npos);
  EXPECT_TRUE(p.wait_released());
  EXPECT_TRUE(d.finish());
}

TEST_P(Session, NobodySpeaksWithinTheFirstContactDeadline) {
  tune_b = [](NodeConfig& c) { c.receiver.first_contact_deadline = std::chrono::milliseconds(50); };
  start();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 100, 1).ok());
  ASSERT_TRUE(d.wait(State::kFailed));
  EXPECT_EQ(d.session->poll().why.code(), Code::kDeadlineExceeded);
  EXPECT_NE(d.session->poll().why.message().find(a_node->address().to_string() + " said nothing"),
            std::string::npos)
      << d.session->poll().why.message();
  EXPECT_TRUE(d.finish());
  // What comes after the end is refused.
  auto p = prefiller();
  ASSERT_TRUE(p.create(h, b_address(), 100, 1).ok());
  p.compute();
  ASSERT_TRUE(p.released.until([&] { return p.session->report().end == End::kRefused; }));
  EXPECT_TRUE(p.wait_released());
}

TEST_P(Session, AcceptDeadlineRefusesForTheEngine) {
  tune_b = [](NodeConfig& c) { c.receiver.accept_deadline = std::chrono::milliseconds(50); };
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 100, 1).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 100, 1).ok());
  p.compute();
  ASSERT_TRUE(d.wait(State::kOffered));
  ASSERT_TRUE(d.wait(State::kFailed));  // the engine never answers
  ASSERT_TRUE(p.released.until([&] { return p.session->report().end == End::kRefused; }));
  EXPECT_NE(p.session->report().why.message().find("allocated no blocks in time"),
            std::string::npos);
}

TEST_P(Session, ASenderThatWaitsNoLongerThanAReceiverMayTakeIsNoNode) {
  KvEngine engine(a_shape);
  NodeConfig config = small_node(engine, channel);
  config.receiver.record_ttl = std::chrono::milliseconds(700);
  config.receiver.accept_deadline = std::chrono::milliseconds(60);
  config.sender.accept_deadline = std::chrono::milliseconds(760);
  const auto made = Node::create(config);
  ASSERT_EQ(made.status().code(), Code::kInvalidArgument);
  EXPECT_NE(made.status().message().find("sender.accept_deadline is 760 ms"), std::string::npos)
      << made.status().message();
  EXPECT_NE(made.status().message().find("760 ms, or"), std::string::npos);
  config.sender.accept_deadline = std::chrono::milliseconds(761);
  EXPECT_TRUE(Node::create(config).ok());
}

TEST_P(Session, ABlockTableThatIsNotTheEnginesIsNeverGathered) {
  start();
  const auto ends_failed = [&](Prefiller& p, const char* word) {
    ASSERT_TRUE(p.released.until([&] { return p.session->report().end == End::kFailed; }));
    EXPECT_EQ(p.session->report().why.code(), Code::kInvalidArgument);
    EXPECT_NE(p.session->report().why.message().find(word), std::string::npos)
        << p.session->report().why.message();
    p.session->finish();
    EXPECT_TRUE(p.wait_released());
  };
  auto foreign = prefiller();
  ASSERT_TRUE(foreign.create(handoff(), b_address(), 32, 1).ok());
  foreign.session->begin(std::vector<uint32_t>{3, 64}, 0);  // blocks are 0 to 63
  ends_failed(foreign, "64");
  auto shorter = prefiller();
  ASSERT_TRUE(shorter.create(handoff(), b_address(), 64, 1).ok());
  shorter.session->begin(std::vector<uint32_t>{3, 5}, 0);
  shorter.session->layer_ready(0, 64);  // two blocks hold 32 tokens
  ends_failed(shorter, "2 blocks");
  EXPECT_EQ(copied(*a_node, "gather"), 0);
}

TEST_P(Session, AbortOfEitherSideInEveryStateFreesBoth) {
  start();
  for (int stage = 0; stage < 4; ++stage) {
    for (const bool sender_aborts : {true, false}) {
      SCOPED_TRACE(testing::Message() << "stage " << stage << " sender " << sender_aborts);
      auto p = prefiller();
      auto d = decoder();
      const HandoffAttempt h = handoff();
      const uint32_t prompt = 100 + stage * 2 + sender_aborts;
      ASSERT_TRUE(p.create(h, b_address(), 70, prompt).ok());
      ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 70, prompt).ok());
      if (stage >= 1) p.begin();
      if (stage >= 2) {
        ASSERT_TRUE(d.wait(State::kOffered));
      }
      if (stage >= 3) {
        d.accept();
        p.layer(0, 0, 70);
        ASSERT_TRUE(d.session->wait_layer(0, std::chrono::seconds(20)).ok());
      }
      if (sender_aborts) {
        p.session->abort("the client went away");
        ASSERT_TRUE(d.wait_over());
        EXPECT_EQ(d.session->poll().state, State::kFailed);
        EXPECT_TRUE(d.finish());
        EXPECT_TRUE(p.wait_released());
      } else {
        d.session->abort("the client went away");
        EXPECT_TRUE(d.released.until([&] { return d.released.seen() == 1; }));
        ASSERT_TRUE(p.released.until([&] { return p.session->report().end.has_value(); }));
        p.session->abort("so did the prefiller");
        EXPECT_TRUE(p.wait_released());
      }
    }
  }
}

TEST_P(Session, TheSameAttemptTwiceIsRefusedTheNextAttemptIsNot) {
  start();
  auto p = prefiller();
  auto d = decoder();
  HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 70, 1).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 70, 1).ok());
  auto again = decoder();
  EXPECT_EQ(again.create(h, Flow::kPush, a_address(), 70, 1).code(), Code::kExists);
  p.compute();
  ASSERT_TRUE(d.load());
  ASSERT_TRUE(d.finish());
  EXPECT_EQ(again.create(h, Flow::kPush, a_address(), 70, 1).code(), Code::kRefused);
  h.attempt = 2;
  auto second = decoder();
  ASSERT_TRUE(second.create(h, Flow::kFetch, a_address(), 70, 1).ok());
  ASSERT_TRUE(second.load());
  EXPECT_EQ(second.wrong(70), 0u);
}

TEST_P(Session, BothNodesDialAtOnce) {
  for (int round = 0; round < 10; ++round) {
    start();
    auto pa = prefiller();
    auto da = decoder();
    Prefiller pb{*b_node, *b_kv, b_shape.layers};
    Decoder db{*a_node, *a_kv};
    const HandoffAttempt there = handoff();
    const HandoffAttempt back = handoff();
    ASSERT_TRUE(pa.create(there, b_address(), 70, 1).ok());
    ASSERT_TRUE(pb.create(back, a_address(), 70, 2).ok());
    ASSERT_TRUE(da.create(there, Flow::kPush, a_address(), 70, 1).ok());
    ASSERT_TRUE(db.create(back, Flow::kPush, b_address(), 70, 2).ok());
    pa.compute();
    pb.compute();
    ASSERT_TRUE(da.load());
    ASSERT_TRUE(db.load());
    EXPECT_EQ(da.wrong(70), 0u);
    EXPECT_EQ(db.wrong(70), 0u);
  }
}

TEST_P(Session, ManyAtOnceThroughLittleMemory) {
  tune_a = [](NodeConfig& c) {
    c.mode = SendMode::kTransient;
    c.transit_bytes = 16u << 10;  // two segments
  };
  start();
  std::vector<std::unique_ptr<Prefiller>> ps;
  std::vector<std::unique_ptr<Decoder>> ds;
  for (uint32_t i = 0; i < 8; ++i) {
    ps.push_back(std::make_unique<Prefiller>(*a_node, *a_kv, 3));
    ds.push_back(std::make_unique<Decoder>(*b_node, *b_kv));
    const HandoffAttempt h = handoff();
    ASSERT_TRUE(ps[i]->create(h, b_address(), 90 + i, i).ok());
    ASSERT_TRUE(ds[i]->create(h, Flow::kPush, a_address(), 90 + i, i).ok());
    ps[i]->compute(40);
  }
  for (uint32_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(ds[i]->load());
    EXPECT_EQ(ds[i]->wrong(90 + i), 0u);
    EXPECT_TRUE(ps[i]->wait_released());
  }
}

TEST_P(Session, ANodeThatStopsEndsItsHandoffsAndTellsThePeer) {
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 70, 1).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 70, 1).ok());
  p.begin();
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  p.session.reset();
  a_node.reset();
  EXPECT_EQ(p.released.seen(), 1);
  ASSERT_TRUE(d.wait(State::kFailed));
  EXPECT_TRUE(d.finish());
}

TEST(UcxNode, WhatUcxHasNotIsAnErrorThatSaysSo) {
  KvEngine engine(KvShape{});
  NodeConfig config = small_node(engine, ChannelChoice::kUcx);
  config.ucx.transports = "dc_mlx5";
  const auto node = Node::create(std::move(config));
  ASSERT_FALSE(node.ok());
  EXPECT_NE(node.status().message().find("channel ucx"), std::string::npos)
      << node.status().message();
}

}  // namespace
}  // namespace baton::fakes
