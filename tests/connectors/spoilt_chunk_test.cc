// A retained chunk whose bytes go bad in memory: asked for again it is found out, leaves the host
// tier, and is never served.
#include <gtest/gtest.h>

#include "tests/connectors/two_nodes.h"
#include "tests/fakes/memory_tier.h"

namespace baton::fakes {
namespace {

using State = DecodeSession::State;
using protocol::End;
using protocol::Flow;

// Where gathers wrote, in their order.
struct Payloads {
  std::byte* at(size_t i) {
    MutexLock lock(mutex);
    return written.at(i);
  }
  Mutex mutex;
  std::vector<std::byte*> written BATON_GUARDED_BY(mutex);
};

class RememberingCopier final : public Copier {
 public:
  RememberingCopier(std::unique_ptr<Copier> inner, std::shared_ptr<Payloads> payloads)
      : inner_(std::move(inner)), payloads_(std::move(payloads)) {}
  void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
              std::byte* payload, Done done) override {
    {
      MutexLock lock(payloads_->mutex);
      payloads_->written.push_back(payload);
    }
    inner_->gather(from, order, seed, payload, std::move(done));
  }
  void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
               const std::byte* payload, uint32_t first_token, Done done) override {
    inner_->scatter(to, order, seed, payload, first_token, std::move(done));
  }

 private:
  const std::unique_ptr<Copier> inner_;
  const std::shared_ptr<Payloads> payloads_;
};

class SpoiltChunk : public TwoNodes {
 protected:
  static constexpr uint32_t kChunk = 64;
  void start_remembering() {
    tune_a = [&](NodeConfig& config) {
      config.seams.copier = [payloads = payloads](std::unique_ptr<Copier> inner) {
        return std::make_unique<RememberingCopier>(std::move(inner), payloads);
      };
    };
    start();
  }
  double chunks_in_tier() { return metric(*a_node, R"(baton_tier_chunks{tier="host"})"); }
  double failures_in_tier() {
    return metric(*a_node, R"(baton_checksum_failures_total{where="host"})");
  }
  std::shared_ptr<Payloads> payloads = std::make_shared<Payloads>();
};

TEST_F(SpoiltChunk, ThatNobodyHoldsElsewhereFailsOneHandoffAndIsNotFoundByTheNext) {
  start_remembering();
  auto p = prefiller();  // held for a FETCH: pinned
  ASSERT_TRUE(p.create(handoff(), {}, 2 * kChunk, 1).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  ASSERT_EQ(chunks_in_tier(), 2);
  *payloads->at(1) ^= std::byte{1};  // the second chunk's first layer

  auto d = decoder();
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, a_address(), 2 * kChunk, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  d.accept();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().why.code(), Code::kChecksum) << d.session->poll().why.to_string();
  EXPECT_EQ(failures_in_tier(), 1);
  EXPECT_EQ(chunks_in_tier(), 1);
  EXPECT_TRUE(d.finish());

  auto next = decoder();
  ASSERT_TRUE(next.create(handoff(), Flow::kFetch, a_address(), 2 * kChunk, 1).ok());
  ASSERT_TRUE(next.load());
  EXPECT_EQ(next.session->poll().tokens, kChunk);
  EXPECT_EQ(next.wrong(kChunk), 0u);
  EXPECT_EQ(failures_in_tier(), 1);
}

TEST_F(SpoiltChunk, OfTheEnginesOwnIsComputedFromThereOn) {
  start_remembering();
  auto p = prefiller();
  ASSERT_TRUE(
      p.create(handoff(), {}, 3 * kChunk, 1, std::chrono::seconds(30), Duration::zero()).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  ASSERT_EQ(chunks_in_tier(), 3);
  *payloads->at(1) ^= std::byte{1};  // the second chunk's first layer

  Decoder d(*a_node, *a_kv);
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 3 * kChunk, 1).ok());
  ASSERT_TRUE(d.wait(State::kOffered));
  EXPECT_EQ(d.session->poll().tokens, 3 * kChunk);
  d.accept();
  ASSERT_TRUE(d.wait_over());
  EXPECT_EQ(d.session->poll().state, State::kLoaded);
  EXPECT_EQ(d.session->poll().tokens, kChunk);
  EXPECT_EQ(d.session->report().why.code(), Code::kChecksum);
  EXPECT_EQ(d.wrong(kChunk), 0u);
  EXPECT_EQ(failures_in_tier(), 1);
  EXPECT_EQ(chunks_in_tier(), 2);
  EXPECT_TRUE(d.finish());
}

TEST_F(SpoiltChunk, OfTheEnginesOwnComesOutOfTheNextTierThatHasIt) {
  const auto below = std::make_shared<MemoryTierState>();
  tune_a = [&](NodeConfig& config) {
    config.seams.copier = [payloads = payloads](std::unique_ptr<Copier> inner) {
      return std::make_unique<RememberingCopier>(std::move(inner), payloads);
    };
    config.seams.tiers = [below](boost::asio::io_context& io) {
      std::vector<std::unique_ptr<Tier>> tiers;
      tiers.push_back(std::make_unique<MemoryTier>(io, below));
      return tiers;
    };
  };
  start();
  auto p = prefiller();
  ASSERT_TRUE(
      p.create(handoff(), {}, 3 * kChunk, 1, std::chrono::seconds(30), Duration::zero()).ok());
  p.compute();
  ASSERT_TRUE(p.wait_released());
  ASSERT_TRUE(p.released.until([&] { return below->chunks() == 3; }));
  *payloads->at(1) ^= std::byte{1};  // the second chunk's first layer

  Decoder d(*a_node, *a_kv);
  ASSERT_TRUE(d.create(handoff(), Flow::kFetch, {}, 3 * kChunk, 1).ok());
  ASSERT_TRUE(d.load());
  EXPECT_EQ(d.session->poll().tokens, 3 * kChunk);
  EXPECT_EQ(d.wrong(3 * kChunk), 0u);
  EXPECT_EQ(failures_in_tier(), 1);
  EXPECT_EQ(below->reads(), 1u);
  EXPECT_TRUE(d.finish());
}

TEST_F(SpoiltChunk, IsGatheredAnewWhileTheEngineHoldsItsBlocks) {
  start_remembering();
  auto p = prefiller();
  const HandoffAttempt h = handoff();
  ASSERT_TRUE(p.create(h, b_address(), kChunk, 1).ok());
  p.begin();
  for (uint32_t l = 0; l < a_shape.layers; ++l) p.layer(l, 0, kChunk);
  ASSERT_TRUE(p.released.until([&] { return chunks_in_tier() == 1; }));
  *payloads->at(1) ^= std::byte{1};

  auto d = decoder();
  ASSERT_TRUE(d.create(h, Flow::kPush, a_address(), kChunk, 1).ok());
  ASSERT_TRUE(d.load()) << d.session->poll().why.to_string();
  EXPECT_EQ(d.wrong(kChunk), 0u);
  EXPECT_EQ(failures_in_tier(), 1);
  EXPECT_EQ(chunks_in_tier(), 0);
  EXPECT_EQ(p.released.seen(), 0);
  p.session->finish();
  EXPECT_TRUE(p.wait_released());
}

}  // namespace
}  // namespace baton::fakes
