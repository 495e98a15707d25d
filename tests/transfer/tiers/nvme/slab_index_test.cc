#include "transfer/tiers/nvme/slab_index.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstring>
#include <map>
#include <random>
#include <set>

namespace baton::nvme {
namespace {

HeldChunk held_chunk(uint32_t number, uint64_t generation = 1) {
  HeldChunk chunk{.generation = generation, .segment_bytes = 100, .layers = 3};
  // As a hash is: all bits differ.
  for (size_t at = 0; at < 32; at += 8) {
    const uint64_t word = (number + 1) * 0x9e3779b97f4a7c15ull + at;
    std::memcpy(chunk.id.key.bytes.data() + at, &word, 8);
  }
  return chunk;
}

// With all slabs free.
SlabIndex free_index(uint32_t slabs) {
  SlabIndex index(slabs);
  for (uint32_t slab = 0; slab < slabs; ++slab) index.release(slab);
  return index;
}
uint32_t put(SlabIndex& index, uint32_t number) {
  const uint32_t slab = *index.take_free();
  index.set_clean(slab);
  index.expect(slab, held_chunk(number));
  index.publish(slab);
  return slab;
}

TEST(SlabIndex, FindsWhatIsPublished) {
  SlabIndex index = free_index(4);
  EXPECT_EQ(index.free(), 4u);
  EXPECT_FALSE(index.find(held_chunk(1).id));
  const uint32_t slab = put(index, 1);
  EXPECT_EQ(index.find(held_chunk(1).id), slab);
  HeldChunk sibling = held_chunk(1);
  sibling.id.head_group = 1;
  EXPECT_FALSE(index.find(sibling.id));
  EXPECT_EQ(index.held().chunks, 1u);
  EXPECT_EQ(index.held().bytes, 300u);
  EXPECT_TRUE(index.at(slab).stale());
  index.unlist(slab);
  EXPECT_FALSE(index.find(held_chunk(1).id));
  EXPECT_EQ(index.held().chunks, 0u);
  EXPECT_EQ(index.held().bytes, 0u);
  EXPECT_EQ(index.free(), 3u);
  index.release(slab);
  EXPECT_EQ(index.free(), 4u);
  EXPECT_TRUE(index.at(slab).stale());  // nobody has said otherwise
}

TEST(SlabIndex, GhostsAreWhatARestartWouldFind) {
  SlabIndex index = free_index(3);
  const ChunkId id = held_chunk(1).id;
  const uint32_t first = put(index, 1);
  EXPECT_TRUE(index.ghosts(id).empty());  // it is there
  index.unlist(first);
  EXPECT_EQ(index.ghosts(id), std::vector<uint32_t>{first});
  const uint32_t second = put(index, 1);
  EXPECT_EQ(index.find(id), second);
  EXPECT_EQ(index.ghosts(id), std::vector<uint32_t>{first});
  index.release(first);
  EXPECT_EQ(index.ghosts(id), std::vector<uint32_t>{first});
  index.take(first);
  index.set_clean(first);
  EXPECT_TRUE(index.ghosts(id).empty());
  index.expect(first, held_chunk(2));
  EXPECT_FALSE(index.find(held_chunk(2).id));
  EXPECT_EQ(index.ghosts(held_chunk(2).id), std::vector<uint32_t>{first});
  index.publish(first);
  EXPECT_EQ(index.find(held_chunk(2).id), first);
}

TEST(SlabIndex, TheSlabThatWasFreeForLongestIsTaken) {
  SlabIndex index = free_index(3);
  const uint32_t first = *index.take_free();
  index.release(first);
  std::vector<uint32_t> taken;
  while (const auto slab = index.take_free()) taken.push_back(*slab);
  EXPECT_EQ(taken, (std::vector<uint32_t>{1, 2, first}));
}

TEST(SlabIndex, WhatIsReadIsNeitherEvictedNorGivenOut) {
  SlabIndex index = free_index(2);
  const uint32_t one = put(index, 1);
  const uint32_t two = put(index, 2);
  index.pin(one);
  index.pin(one);
  EXPECT_EQ(index.evictable(), 1u);
  EXPECT_EQ(index.take_oldest(), two);
  EXPECT_FALSE(index.take_oldest());
  index.unlist(one);
  index.release(one);
  EXPECT_FALSE(index.take_free());  // two readers yet
  index.unpin(one);
  EXPECT_FALSE(index.take_free());
  index.unpin(one);
  EXPECT_EQ(index.take_free(), one);
}

TEST(SlabIndex, AReadIsAUse) {
  SlabIndex index = free_index(3);
  const uint32_t one = put(index, 1);
  const uint32_t two = put(index, 2);
  const uint32_t three = put(index, 3);
  index.pin(one);
  index.unpin(one);
  index.touch(two);
  EXPECT_EQ(index.take_oldest(), three);
  EXPECT_EQ(index.take_oldest(), one);
  EXPECT_EQ(index.take_oldest(), two);
}

TEST(SlabIndex, DoesWhatAMapDoes) {
  constexpr uint32_t kSlabs = 64;
  SlabIndex index = free_index(kSlabs);
  std::map<uint32_t, uint32_t> expected;  // number -> slab
  std::set<uint32_t> taken;
  std::mt19937 random(11);
  for (int step = 0; step < 50000; ++step) {
    const uint32_t number = random() % 200;
    const auto found = index.find(held_chunk(number).id);
    ASSERT_EQ(found.has_value(), expected.contains(number));
    if (found) {
      ASSERT_EQ(*found, expected[number]);
      if (random() % 2 == 0) {
        index.unlist(*found);
        expected.erase(number);
        taken.insert(*found);
      }
    } else {
      auto slab = index.take_free();
      if (!slab) {
        slab = index.take_oldest();
        if (slab) std::erase_if(expected, [&](const auto& each) { return each.second == *slab; });
      }
      if (slab) {
        index.set_clean(*slab);
        index.expect(*slab, held_chunk(number));
        index.publish(*slab);
        expected[number] = *slab;
      }
    }
    if (!taken.empty() && random() % 3 == 0) {
      index.release(*taken.begin());
      taken.erase(taken.begin());
    }
    ASSERT_EQ(index.held().chunks, expected.size());
    ASSERT_EQ(index.free() + expected.size() + taken.size(), kSlabs);
  }
}

// What it costs for a million chunks, as the allocator sees it.
TEST(SlabIndex, AMillionChunksCostAtMost128BytesEach) {
  constexpr uint32_t kSlabs = 1000000;
  static_assert(SlabIndex::kBytesPerSlab <= 128);
#ifndef BATON_SANITIZED
  const auto allocated = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = allocated();
#endif
  SlabIndex index = free_index(kSlabs);
  for (uint32_t number = 0; number < kSlabs; ++number) put(index, number);
#ifndef BATON_SANITIZED
  const double each = static_cast<double>(allocated() - before) / kSlabs;
  RecordProperty("bytes_a_chunk", std::to_string(each));
  EXPECT_LE(each, 128);
  EXPECT_GE(each, sizeof(SlabIndex::Entry));  // it was seen
#endif
  EXPECT_EQ(index.held().chunks, kSlabs);
  for (uint32_t number = 0; number < kSlabs; number += 997)
    ASSERT_TRUE(index.find(held_chunk(number).id));
}

}  // namespace
}  // namespace baton::nvme
