#include "perf/bare_copy.h"

#include <gtest/gtest.h>

#include "kernels/gather.h"
#include "perf/kv_pool.h"
#include "perf/sizes.h"

namespace baton::bench {
namespace {

constexpr uint32_t kBlocks = 5;
constexpr size_t kBlockBytes = 4096;

class BareCopy : public testing::TestWithParam<std::tuple<const char*, PayloadOrder>> {
 protected:
  void SetUp() override {
    const auto [name, order] = GetParam();
    order_ = order;
    layout_ = bench_layout(name, kBlockBytes, 16).value();
    pool_ = KvPool::create(layout_, 1, kBlocks).value();
    pool_->fill();
    segment_ = {pool_->block(0, 0), layout_, order_of_blocks_.data(), kBlocks * 16};
    gather(segment_, order_, {1, 2}, expected_.data());
  }

  KvLayout layout_;
  PayloadOrder order_{};
  std::unique_ptr<KvPool> pool_;
  const std::vector<uint32_t> order_of_blocks_ = shuffled_blocks(kBlocks, 3);
  KvSegment segment_;
  std::vector<std::byte> expected_ = std::vector<std::byte>(kBlocks * kBlockBytes);
};

TEST_P(BareCopy, GathersWhatTheKernelGathers) {
  const BareRuns runs(layout_, order_);
  for (const auto copy : {bare_gather, unchecked_gather}) {
    std::vector<std::byte> payload(expected_.size(), std::byte{0xdb});
    copy(runs, segment_, payload.data());
    EXPECT_EQ(payload, expected_);
  }
}

TEST_P(BareCopy, ScattersItBack) {
  const BareRuns runs(layout_, order_);
  for (const auto copy : {bare_scatter, unchecked_scatter}) {
    pool_->poison();
    copy(runs, segment_, expected_.data());
    EXPECT_EQ(pool_->wrong_words(order_of_blocks_, order_of_blocks_), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, BareCopy,
                         testing::Values(std::tuple("one-run", PayloadOrder::kTokenHead),
                                         std::tuple("nhd", PayloadOrder::kTokenHead),
                                         std::tuple("nhd", PayloadOrder::kHeadToken),
                                         std::tuple("hnd", PayloadOrder::kTokenHead),
                                         std::tuple("hnd", PayloadOrder::kHeadToken),
                                         std::tuple("opaque", PayloadOrder::kOpaque)));

}  // namespace
}  // namespace baton::bench
