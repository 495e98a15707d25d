#include "transfer/protocol/segment_map.h"

#include <random>
#include <set>

#include "tests/transfer/protocol/fixtures.h"
#include "transfer/protocol/index_set.h"

namespace baton::protocol {
namespace {

Offer random_offer(std::mt19937& random) {
  std::vector<GroupOffer> groups;
  const uint32_t count = 1 + random() % 5;
  for (uint16_t i = 0; i < count; ++i) {
    groups.push_back(some_group(i, 1 + random() % 9, 1 + random() % 100));
    if (random() % 3 == 0) {
      groups.back().order = PayloadOrder::kOpaque;
      groups.back().opaque_block_tokens = 8;
    }
  }
  return some_offer(1 + random() % 200, 0, groups);
}

uint64_t total_bytes(const SegmentMap& map) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < map.segments(); ++i) total += map.bytes(i);
  return total;
}

TEST(SegmentMap, NumbersGroupMajorThenChunkThenLayer) {
  const SegmentMap map(some_offer(40, 0, {some_group(0, 2), some_group(1, 3)}));
  EXPECT_EQ(map.segments(), 3u * 2 + 3 * 3);
  EXPECT_EQ(map.index({0, 0, 1}), 1u);
  EXPECT_EQ(map.index({0, 2, 0}), 4u);
  EXPECT_EQ(map.index({1, 0, 0}), 6u);
  EXPECT_EQ(map.index({1, 2, 2}), 14u);
  EXPECT_EQ(map.tokens_of_chunk(1), 16u);
  EXPECT_EQ(map.tokens_of_chunk(2), 8u);
  EXPECT_EQ(map.first_token_of_chunk(2), 32u);
  EXPECT_EQ(map.bytes(0), 64u);
  EXPECT_EQ(map.bytes(4), 32u);
  EXPECT_EQ(total_bytes(map), 40u * 4 * 5);
  EXPECT_EQ(map.max_layers(), 3u);
}

TEST(SegmentMap, OpaqueSegmentsAreWholeBlocks) {
  GroupOffer group = some_group(0, 1, 1000);
  group.order = PayloadOrder::kOpaque;
  group.opaque_block_tokens = 8;
  const SegmentMap map(some_offer(25, 0, {group}));
  EXPECT_EQ(map.bytes(0), 2000u);
  EXPECT_EQ(map.bytes(1), 2000u);  // 9 tokens: two blocks
}

TEST(SegmentMap, TheLastTokenOfThirtyTwoBitsDoesNotOverflow) {
  Offer offer = some_offer(1, 1);
  offer.chunk_tokens = 1u << 16;
  offer.tokens = UINT32_MAX;
  offer.keys = some_keys(1u << 16);
  ASSERT_TRUE(check_offer(offer).ok()) << check_offer(offer).to_string();
  const SegmentMap map(offer);
  EXPECT_EQ(map.tokens_of_chunk(map.chunks() - 1), (1u << 16) - 1);
  EXPECT_EQ(total_bytes(map), uint64_t{UINT32_MAX} * 4);
  EXPECT_TRUE(chunks_held(map, UINT32_MAX, {}).back());
  EXPECT_FALSE(chunks_held(map, UINT32_MAX - 1, {}).back());
}

TEST(SegmentMap, IndexAndIdAreInverse) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const SegmentMap map(random_offer(random));
    for (uint32_t i = 0; i < map.segments(); ++i) ASSERT_EQ(map.index(map.id(i)), i);
  }
}

TEST(IndexSet, AgreesWithAnOrderedSet) {
  std::mt19937 random(3);
  for (const uint32_t bound : {1u, 2u, 63u, 64u, 65u, 4096u, 4097u, 300'000u}) {
    IndexSet set(bound);
    std::set<uint32_t> reference;
    for (int step = 0; step < 3000; ++step) {
      const uint32_t i = random() % bound;
      if (random() % 2 == 0) {
        set.insert(i);
        reference.insert(i);
      } else {
        const uint32_t victim = random() % 2 == 0 && !reference.empty() ? *reference.begin() : i;
        set.erase(victim);
        reference.erase(victim);
      }
      ASSERT_EQ(set.contains(i), reference.contains(i));
      ASSERT_EQ(set.first(), reference.empty() ? std::nullopt : std::optional(*reference.begin()));
    }
    IndexSet rebuilt(bound);
    for (const uint32_t i : reference) rebuilt.insert(i);
    EXPECT_EQ(rebuilt, set);
  }
  EXPECT_EQ(IndexSet().first(), std::nullopt);
  EXPECT_EQ(IndexSet(0).first(), std::nullopt);
}

}  // namespace
}  // namespace baton::protocol
