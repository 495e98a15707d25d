#include "perf/kv_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "perf/sizes.h"

namespace baton::bench {
namespace {

constexpr uint32_t kLayers = 2, kPoolBlocks = 6;

std::unique_ptr<KvPool> make_pool() {
  auto pool = KvPool::create(bench_layout("one-run", 256, 16).value(), kLayers, kPoolBlocks);
  EXPECT_TRUE(pool.ok());
  return std::move(pool).value();
}

TEST(KvPool, ShuffledBlocksAreAPermutationOfTheirSeed) {
  std::vector<uint32_t> order = shuffled_blocks(100, 7);
  EXPECT_EQ(order, shuffled_blocks(100, 7));
  EXPECT_NE(order, shuffled_blocks(100, 8));
  std::sort(order.begin(), order.end());
  for (uint32_t i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(KvPool, KnowsItsBytesWhereverTheyWereMoved) {
  const auto from = make_pool(), to = make_pool();
  from->fill();
  const auto sent = shuffled_blocks(kPoolBlocks, 1), here = shuffled_blocks(kPoolBlocks, 2);
  const uint64_t words = uint64_t{kLayers} * kPoolBlocks * 256 / 8;
  EXPECT_EQ(to->wrong_words(sent, here), words);  // poison
  for (uint32_t l = 0; l < kLayers; ++l)
    for (uint32_t b = 0; b < kPoolBlocks; ++b)
      std::memcpy(to->block(l, here[b]), from->block(l, sent[b]), 256);
  EXPECT_EQ(to->wrong_words(sent, here), 0u);
  *to->block(1, 3) ^= std::byte{1};
  EXPECT_EQ(to->wrong_words(sent, here), 1u);
  EXPECT_GT(to->wrong_words(here, sent), 1u);
  const uint32_t poisoned[] = {3, 4};
  to->poison(poisoned);
  EXPECT_EQ(to->wrong_words(sent, here), 2 * kLayers * 256u / 8);
}

TEST(KvPool, RefusesBlocksOfHalfWords) {
  KvLayout layout = bench_layout("one-run", 12, 4).value();
  EXPECT_EQ(KvPool::create(layout, 1, 1).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton::bench
