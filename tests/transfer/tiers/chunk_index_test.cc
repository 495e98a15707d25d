#include "transfer/tiers/chunk_index.h"

#include <gtest/gtest.h>

#include <random>
#include <unordered_map>

namespace baton {
namespace {

// Ids that differ in their last bytes alone have one hash: so do all of one `bucket`.
ChunkId colliding(uint32_t bucket, uint32_t number) {
  ChunkId id{.kv_group = 1, .head_group = 2};
  std::memcpy(id.key.bytes.data(), &bucket, sizeof bucket);
  std::memcpy(id.key.bytes.data() + 28, &number, sizeof number);
  return id;
}

TEST(ChunkIndex, AnEmptyOneHasNothing) {
  const ChunkIndex index;
  EXPECT_EQ(index.find(colliding(1, 1)), ChunkIndex::kNone);
  EXPECT_EQ(index.for_leading(std::vector<ChunkKey>(3), 0, 0, [](auto) { FAIL(); }), 0u);
  EXPECT_EQ(index.size(), 0u);
}

TEST(ChunkIndex, GroupsStandBesideTheKey) {
  ChunkIndex index;
  ChunkId id = colliding(1, 1);
  index.insert(id, 7);
  EXPECT_EQ(index.find(id), 7u);
  id.head_group = 3;
  EXPECT_EQ(index.find(id), ChunkIndex::kNone);
  id = {.key = id.key, .kv_group = 2, .head_group = 2};
  EXPECT_EQ(index.find(id), ChunkIndex::kNone);
  const std::vector<ChunkKey> keys{id.key};
  EXPECT_EQ(index.for_leading(keys, 1, 2, [](auto item) { EXPECT_EQ(item, 7u); }), 1u);
  EXPECT_EQ(index.for_leading(keys, 2, 1, [](auto) {}), 0u);
}

// Few hashes and many ids: runs of cells that are in use, holes in them, and their wrapping around.
TEST(ChunkIndex, BehavesLikeAMap) {
  ChunkIndex index;
  std::unordered_map<ChunkId, ChunkIndex::Item> map;
  std::vector<ChunkIndex::Item> free;
  std::mt19937 random(1);
  for (ChunkIndex::Item item = 0; item < 400; ++item) free.push_back(item);
  for (int step = 0; step < 100'000; ++step) {
    const ChunkId id = colliding(random() % 64, random() % 12);
    const auto found = map.find(id);
    ASSERT_EQ(index.find(id), found == map.end() ? ChunkIndex::kNone : found->second);
    if (found != map.end()) {
      index.erase(found->second);
      free.push_back(found->second);
      map.erase(found);
    } else if (!free.empty()) {
      std::swap(free[random() % free.size()], free.back());
      index.insert(id, free.back());
      map[id] = free.back();
      free.pop_back();
    }
    ASSERT_EQ(index.size(), map.size());
  }
  for (const auto& [id, item] : map) ASSERT_EQ(index.find(id), item);
}

TEST(ChunkIndex, LeadingIsOneAfterTheOther) {
  ChunkIndex index;
  std::mt19937 random(2);
  std::vector<ChunkId> ids;
  for (uint32_t i = 0; i < 600; ++i) ids.push_back(colliding(i % 200, i));
  for (uint32_t i = 0; i < ids.size(); ++i)
    if (i % 7 != 0) index.insert(ids[i], i);
  for (int round = 0; round < 5'000; ++round) {
    std::vector<ChunkKey> keys;
    std::vector<ChunkIndex::Item> expected;
    bool leading = true;
    for (size_t length = random() % 40; keys.size() < length;) {
      const uint32_t pick = random() % ids.size();
      if (pick % 7 == 0 && random() % 8 != 0) continue;  // so that some runs are long
      keys.push_back(ids[pick].key);
      leading = leading && pick % 7 != 0;
      if (leading) expected.push_back(pick);
    }
    std::vector<ChunkIndex::Item> items;
    ASSERT_EQ(index.for_leading(keys, 1, 2, [&](auto item) { items.push_back(item); }),
              expected.size());
    ASSERT_EQ(items, expected);
  }
}

}  // namespace
}  // namespace baton
