// What becomes of handoffs when memory to send from is short: slots, staging memory, pins.
#include <gtest/gtest.h>

#include <atomic>

#include "tests/connectors/two_nodes.h"
#include "transfer/channel.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

// While `hold` is set the completions of gathers wait; the first one after it lets all go.
struct Gate {
  std::atomic<bool> hold{false};
  std::atomic<size_t> waiting{0};
  std::vector<std::function<void()>> held;  // confined to the progress thread
};

class GatedCopier final : public Copier {
 public:
  GatedCopier(std::unique_ptr<Copier> inner, std::shared_ptr<Gate> gate)
      : inner_(std::move(inner)), gate_(std::move(gate)) {}

  void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
              std::byte* payload, Done done) override {
    inner_->gather(from, order, seed, payload,
                   [gate = gate_, done](const Result<Checksum>& checksum) {
                     if (gate->hold) {
                       gate->held.push_back([done, checksum] { done(checksum); });
                       gate->waiting = gate->held.size();
                       return;
                     }
                     done(checksum);
                     for (const auto& late : std::exchange(gate->held, {})) late();
                     gate->waiting = 0;
                   });
  }
  void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
               const std::byte* payload, uint32_t first_token, Done done) override {
    inner_->scatter(to, order, seed, payload, first_token, std::move(done));
  }
  uint32_t depth() const override { return inner_->depth(); }

 private:
  const std::unique_ptr<Copier> inner_;
  const std::shared_ptr<Gate> gate_;
};

// A channel that has no staging memory at all.
class DryChannel final : public Channel {
 public:
  explicit DryChannel(std::unique_ptr<Channel> inner) : inner_(std::move(inner)) {}
  std::string_view transport() const override { return inner_->transport(); }
  Result<std::optional<Staging>> acquire(size_t) override { return std::optional<Staging>(); }
  Status publish(const SegmentHeader& header, Staging staging, PublishDone done) override {
    return inner_->publish(header, std::move(staging), std::move(done));
  }
  Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                 PublishDone done) override {
    return inner_->publish(header, std::move(slot), offset, std::move(done));
  }
  void forget(const HandoffAttempt& handoff) override { inner_->forget(handoff); }
  void close(Status why) override { inner_->close(std::move(why)); }

 private:
  const std::unique_ptr<Channel> inner_;
};

class Shortage : public TwoNodes {
 protected:
  static constexpr uint32_t kChunk = 64;
  size_t chunk_bytes() const { return kChunk * KvEngine(a_shape).token_bytes() * a_shape.layers; }
  double gathered() { return metric(*a_node, R"(baton_copied_bytes_total{why="gather"})"); }
  double chunks_in_tier() { return metric(*a_node, R"(baton_tier_chunks{tier="host"})"); }
};

// One slot for two handoffs: the first is retained, the second goes through staging memory.
TEST_F(Shortage, WhatLiesInASlotNeedNotWaitForAGatherIntoStagingMemory) {
  auto gate = std::make_shared<Gate>();
  tune_a = [&](NodeConfig& config) {
    config.retained_bytes = 2 * chunk_bytes();
    config.sender.progress_deadline = std::chrono::seconds(30);
    config.seams.copier = [gate](std::unique_ptr<Copier> inner) {
      return std::make_unique<GatedCopier>(std::move(inner), gate);
    };
  };
  start();
  auto retained = prefiller();
  auto mixed = prefiller();  // its first chunk finds a slot, its second does not
  auto retained_to = decoder();
  auto mixed_to = decoder();
  const HandoffAttempt first = handoff();
  const HandoffAttempt second = handoff();
  ASSERT_TRUE(retained.create(first, b_address(), kChunk, 1).ok());
  retained.compute();
  ASSERT_TRUE(retained.released.until([&] { return chunks_in_tier() == 1; }));
  ASSERT_TRUE(mixed.create(second, b_address(), 2 * kChunk, 2).ok());
  mixed.begin();
  mixed.layer(0, 0, 2 * kChunk);
  ASSERT_TRUE(mixed.released.until(
      [&] { return gathered() == chunk_bytes() + chunk_bytes() / a_shape.layers; }));

  gate->hold = true;
  ASSERT_TRUE(mixed_to.create(second, Flow::kPush, a_address(), 2 * kChunk, 2).ok());
  ASSERT_TRUE(mixed_to.wait(State::kOffered));
  mixed_to.accept();
  ASSERT_TRUE(mixed_to.changed.until([&] { return gate->waiting == 1; }));
  ASSERT_TRUE(retained_to.create(first, Flow::kPush, a_address(), kChunk, 1).ok());
  ASSERT_TRUE(retained_to.load());
  EXPECT_EQ(retained_to.wrong(kChunk), 0u);
  EXPECT_EQ(gate->waiting, 1u);

  gate->hold = false;
  mixed.layer(1, 0, 2 * kChunk);
  mixed.layer(2, 0, 2 * kChunk);
  mixed.session->finish();
  ASSERT_TRUE(mixed_to.wait(State::kLoaded));
  EXPECT_EQ(mixed_to.wrong(2 * kChunk), 0u);
  EXPECT_TRUE(mixed.wait_released());
}

TEST_F(Shortage, WhatLiesInASlotNeedNotWaitForStagingMemory) {
  tune_a = [&](NodeConfig& config) {
    config.retained_bytes = chunk_bytes();
    config.sender.progress_deadline = std::chrono::seconds(30);
    config.seams.channel = [](std::unique_ptr<Channel> inner) {
      return std::make_unique<DryChannel>(std::move(inner));
    };
  };
  start();
  auto retained = prefiller();
  auto transient = prefiller();
  auto retained_to = decoder();
  auto transient_to = decoder();
  const HandoffAttempt first = handoff();
  const HandoffAttempt second = handoff();
  ASSERT_TRUE(retained.create(first, b_address(), kChunk, 1).ok());
  retained.compute();
  ASSERT_TRUE(retained.released.until([&] { return chunks_in_tier() == 1; }));
  ASSERT_TRUE(transient.create(second, b_address(), kChunk, 2).ok());
  transient.compute();
  ASSERT_TRUE(transient_to.create(second, Flow::kPush, a_address(), kChunk, 2).ok());
  ASSERT_TRUE(transient_to.wait(State::kOffered));
  transient_to.accept();
  ASSERT_TRUE(transient_to.wait(State::kLoading));
  // The transient one has fewer unacknowledged bytes and has waited longer: its turn comes first.
  ASSERT_TRUE(retained_to.create(first, Flow::kPush, a_address(), kChunk, 1).ok());
  ASSERT_TRUE(retained_to.load());
  EXPECT_EQ(retained_to.wrong(kChunk), 0u);
  EXPECT_EQ(transient_to.session->poll().state, State::kLoading);
  transient_to.session->abort("enough");
}

TEST_F(Shortage, AHandoffThatNeverFindsStagingMemoryExpires) {
  tune_a = [&](NodeConfig& config) {
    config.mode = SendMode::kTransient;
    config.sender.progress_deadline = std::chrono::milliseconds(100);
    config.seams.channel = [](std::unique_ptr<Channel> inner) {
      return std::make_unique<DryChannel>(std::move(inner));
    };
  };
  start();
  // The second is never tried: the first one keeps its turn.
  auto p1 = prefiller();
  auto p2 = prefiller();
  auto d1 = decoder();
  auto d2 = decoder();
  for (const auto& [p, d, prompt] : {std::tuple{&p1, &d1, 1u}, {&p2, &d2, 2u}}) {
    const HandoffAttempt h = handoff();
    ASSERT_TRUE(p->create(h, b_address(), kChunk, prompt).ok());
    ASSERT_TRUE(d->create(h, Flow::kPush, a_address(), kChunk, prompt).ok());
    p->begin();
    ASSERT_TRUE(d->wait(State::kOffered));
    d->accept();
    ASSERT_TRUE(d->wait(State::kLoading));
    for (uint32_t l = 0; l < a_shape.layers; ++l) p->layer(l, 0, kChunk);
    p->session->finish();
  }
  for (Prefiller* p : {&p1, &p2}) {
    ASSERT_TRUE(p->wait_released());
    EXPECT_EQ(p->session->report().end, End::kExpired);
    EXPECT_NE(p->session->report().why.message().find("nothing could be sent"), std::string::npos);
  }
  for (Decoder* d : {&d1, &d2}) EXPECT_TRUE(d->wait(State::kFailed));
}

TEST_F(Shortage, AChunkThatIsBeingSentIsNotEvicted) {
  tune_a = [&](NodeConfig& config) { config.retained_bytes = 2 * chunk_bytes(); };
  start();
  auto first = prefiller();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(first.create(h, b_address(), 2 * kChunk, 1).ok());
  first.compute();
  ASSERT_TRUE(first.wait_released());
  auto second = prefiller();  // would evict what the first handoff holds, and free nothing by it
  auto second_to = decoder();
  const HandoffAttempt other = handoff();
  ASSERT_TRUE(second.create(other, b_address(), kChunk, 2).ok());
  second.compute();
  ASSERT_TRUE(second_to.create(other, Flow::kPush, a_address(), kChunk, 2).ok());
  ASSERT_TRUE(second_to.load());
  EXPECT_EQ(chunks_in_tier(), 2);
  EXPECT_EQ(metric(*a_node, R"(baton_tier_evictions_total{tier="host"})"), 0);
  auto first_to = decoder();
  ASSERT_TRUE(first_to.create(h, Flow::kPush, a_address(), 2 * kChunk, 1).ok());
  ASSERT_TRUE(first_to.load());
  // At its end it may go.
  ASSERT_TRUE(first.released.until([&] { return first.session->report().end.has_value(); }));
  auto third = prefiller();
  ASSERT_TRUE(third.create(handoff(), b_address(), kChunk, 3).ok());
  third.compute();
  ASSERT_TRUE(third.wait_released());
  EXPECT_EQ(chunks_in_tier(), 2);
  EXPECT_EQ(metric(*a_node, R"(baton_tier_evictions_total{tier="host"})"), 1);
}

TEST_F(Shortage, WhatIsBeingGatheredWhenTheHandoffEndsWasNotDelivered) {
  auto gate = std::make_shared<Gate>();
  tune_a = [&](NodeConfig& config) {
    config.retained_bytes = chunk_bytes();
    config.seams.copier = [gate](std::unique_ptr<Copier> inner) {
      return std::make_unique<GatedCopier>(std::move(inner), gate);
    };
  };
  start();
  const double segment = chunk_bytes() / a_shape.layers;
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 2 * kChunk, 1).ok());
  p.begin();
  p.layer(0, 0, 2 * kChunk);
  ASSERT_TRUE(p.released.until([&] { return gathered() == segment; }));
  gate->hold = true;  // the second chunk has no slot: staging memory
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  ASSERT_TRUE(d.changed.until([&] { return gate->waiting == 1; }));
  d.session->abort("enough");
  ASSERT_TRUE(p.released.until([&] { return p.session->report().end.has_value(); }));
  EXPECT_LE(p.session->report().bytes, segment);
  EXPECT_LE(metric(*a_node, "baton_handoff_bytes_total"), segment);

  gate->hold = false;
  p.layer(1, 0, 2 * kChunk);  // what is retained goes on being gathered
  p.session->finish();
  EXPECT_TRUE(p.wait_released());
}

// A tier of two chunks for a prompt of four: the end of it is of no use without the beginning.
TEST_F(Shortage, OfAPromptThatIsTooLongTheBeginningIsRetained) {
  tune_a = [](NodeConfig& config) { config.mode = SendMode::kTransient; };
  tune_b = [&](NodeConfig& config) {
    config.retained_bytes = 2 * chunk_bytes();
    config.retain_received = true;
  };
  start();
  auto p = prefiller();
  auto d = decoder();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), 4 * kChunk, 1).ok());
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), 4 * kChunk, 1).ok());
  p.compute();
  ASSERT_TRUE(d.load());
  EXPECT_TRUE(d.finish());
  auto again = decoder();
  ASSERT_TRUE(again.create(handoff(), Flow::kFetch, {}, 4 * kChunk, 1).ok());
  ASSERT_TRUE(again.wait(State::kOffered));
  EXPECT_EQ(again.session->poll().tokens, 2 * kChunk);
  again.session->abort("enough");
}

TEST_F(Shortage, ATenantOverItsQuotaLosesItsOwnChunks) {
  tune_a = [&](NodeConfig& config) {
    config.retained_bytes = 4 * chunk_bytes();
    config.tenant_bytes = 2 * chunk_bytes();
  };
  start();
  uint32_t prompt = 1;
  for (const char* salt : {"one", "two", "two", "two"}) {
    auto p = prefiller();
    p.salt = salt;
    ASSERT_TRUE(
        p.create(handoff(), {}, 2 * kChunk, prompt++, std::chrono::seconds(30), Duration::zero())
            .ok());
    p.compute();
    ASSERT_TRUE(p.wait_released());
    ASSERT_TRUE(p.released.until([&] { return p.session->report().end.has_value(); }));
  }
  EXPECT_EQ(chunks_in_tier(), 4);
  EXPECT_EQ(metric(*a_node, R"(baton_tier_evictions_total{tier="host"})"), 4);
  auto first = prefiller();
  first.salt = "one";
  const double before = gathered();
  ASSERT_TRUE(
      first.create(handoff(), {}, 2 * kChunk, 1, std::chrono::seconds(30), Duration::zero()).ok());
  first.compute();
  ASSERT_TRUE(first.wait_released());
  EXPECT_EQ(gathered(), before);  // all of it was there still
}

TEST_F(Shortage, AQuotaOfLessThanAChunkIsRefused) {
  KvEngine engine(a_shape);
  NodeConfig config = small_node(engine, channel);
  config.tenant_bytes = chunk_bytes() - 1;
  const auto node = Node::create(std::move(config));
  EXPECT_EQ(node.status().code(), Code::kInvalidArgument);
  EXPECT_NE(node.status().message().find("tenant_bytes is "), std::string::npos);
}

}  // namespace
}  // namespace baton::fakes
