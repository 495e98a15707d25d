#include "examples/reference_engine/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

namespace baton::reference {
namespace {

const LlamaConfig kConfig{.layers = 2, .kv_heads = 2, .head_dim = 4};

float first_number(const KvCache& cache, uint32_t layer, uint32_t block) {
  float number;
  std::memcpy(&number, cache.layers()[layer] + block * cache.view().block_stride, sizeof number);
  return number;
}

TEST(KvCache, GivesEveryBlockOnceInAShuffledOrder) {
  const auto cache = KvCache::create(kConfig, 8, 64, 1).value();
  const auto all = cache->allocate(64);
  ASSERT_TRUE(all);
  EXPECT_EQ(std::set<uint32_t>(all->begin(), all->end()).size(), 64u);
  EXPECT_EQ(*std::max_element(all->begin(), all->end()), 63u);
  EXPECT_FALSE(std::is_sorted(all->begin(), all->end()));
  EXPECT_FALSE(std::is_sorted(all->rbegin(), all->rend()));
  EXPECT_EQ(cache->free_blocks(), 0u);
  EXPECT_FALSE(cache->allocate(1));
  EXPECT_TRUE(cache->allocate(0));
  cache->free(*all);
  EXPECT_EQ(cache->free_blocks(), 64u);
}

TEST(KvCache, TheSeedDecidesTheOrder) {
  const auto order = [](uint64_t seed) {
    return *KvCache::create(kConfig, 8, 64, seed).value()->allocate(64);
  };
  EXPECT_EQ(order(7), order(7));
  EXPECT_NE(order(7), order(8));
}

TEST(KvCache, RefusesToGiveMoreThanThereIs) {
  const auto cache = KvCache::create(kConfig, 8, 4, 1).value();
  ASSERT_TRUE(cache->allocate(3));
  EXPECT_FALSE(cache->allocate(2));
  EXPECT_EQ(cache->free_blocks(), 1u);  // a refusal takes nothing
}

TEST(KvCache, BlocksComeWithNaNsAndLoseWhatWasWritten) {
  const auto cache = KvCache::create(kConfig, 8, 2, 1).value();
  const auto blocks = cache->allocate(2);
  for (uint32_t layer = 0; layer < 2; ++layer)
    for (const uint32_t block : *blocks) {
      EXPECT_TRUE(std::isnan(first_number(*cache, layer, block)));
      std::memset(cache->layers()[layer] + block * cache->view().block_stride, 0,
                  cache->view().block_stride);
    }
  cache->free(*blocks);
  const auto again = cache->allocate(2);
  for (uint32_t layer = 0; layer < 2; ++layer)
    for (const uint32_t block : *again) EXPECT_TRUE(std::isnan(first_number(*cache, layer, block)));
}

TEST(KvCache, CountsBlocksOfTokens) {
  const auto cache = KvCache::create(kConfig, 8, 2, 1).value();
  EXPECT_EQ(cache->blocks_for(0), 0u);
  EXPECT_EQ(cache->blocks_for(1), 1u);
  EXPECT_EQ(cache->blocks_for(8), 1u);
  EXPECT_EQ(cache->blocks_for(9), 2u);
}

TEST(KvCache, RefusesAbsurdSizes) {
  EXPECT_EQ(KvCache::create(kConfig, 0, 4, 1).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(KvCache::create(kConfig, 8, 0, 1).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(KvCache::create(kConfig, 4096, 1u << 24, 1).status().code(), Code::kInvalidArgument);
}

TEST(KvCacheDeathTest, FreeingTwiceEndsTheProcess) {
  const auto cache = KvCache::create(kConfig, 8, 4, 1).value();
  const auto blocks = cache->allocate(1);
  cache->free(*blocks);
  EXPECT_DEATH(cache->free(*blocks), "nobody holds");
}

}  // namespace
}  // namespace baton::reference
