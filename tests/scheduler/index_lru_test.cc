#include "scheduler/index_lru.h"

#include <gtest/gtest.h>

#include <random>

#include "scheduler/eviction.h"

namespace baton::scheduler {
namespace {

TEST(IndexLru, OldestIsTheLeastRecentlyTouched) {
  IndexLru order(4);
  EXPECT_EQ(order.oldest(), std::nullopt);
  for (const uint32_t index : {2u, 0u, 3u}) order.touch(index);
  EXPECT_EQ(order.oldest(), 2u);
  order.touch(2);
  EXPECT_EQ(order.oldest(), 0u);
  EXPECT_EQ(order.size(), 3u);
  EXPECT_FALSE(order.contains(1));
}

TEST(IndexLru, WhatIsRemovedDoesNotLeaveAgain) {
  IndexLru order(3);
  for (const uint32_t index : {0u, 1u, 2u}) order.touch(index);
  EXPECT_TRUE(order.remove(1));
  EXPECT_FALSE(order.remove(1));
  EXPECT_TRUE(order.remove(0));
  EXPECT_EQ(order.oldest(), 2u);
  EXPECT_TRUE(order.remove(2));
  EXPECT_EQ(order.oldest(), std::nullopt);
  EXPECT_EQ(order.size(), 0u);
}

TEST(IndexLru, AnOrderOfNothingIsEmpty) { EXPECT_EQ(IndexLru(0).oldest(), std::nullopt); }

TEST(IndexLru, SeveralOrdersKeepToThemselves) {
  IndexLru order(5, 2);
  order.touch(3, 0);
  order.touch(1, 1);
  order.touch(4, 1);
  EXPECT_EQ(order.oldest(0), 3u);
  EXPECT_EQ(order.oldest(1), 1u);
  EXPECT_EQ(order.size(0), 1u);
  EXPECT_EQ(order.size(1), 2u);
  EXPECT_TRUE(order.remove(1, 1));
  order.touch(1, 0);
  EXPECT_TRUE(order.remove(3, 0));
  EXPECT_EQ(order.oldest(0), 1u);
  EXPECT_EQ(order.oldest(1), 4u);
}

TEST(IndexLru, DoesWhatLruOrderDoes) {
  constexpr uint32_t kCount = 50;
  IndexLru order(kCount);
  LruOrder<uint32_t> expected;
  std::mt19937 random(7);
  for (int step = 0; step < 20000; ++step) {
    const uint32_t index = random() % kCount;
    if (random() % 3 == 0) {
      ASSERT_EQ(order.remove(index), expected.remove(index));
    } else {
      order.touch(index);
      expected.touch(index);
    }
    ASSERT_EQ(order.size(), expected.size());
    const uint32_t* const oldest = expected.oldest();
    ASSERT_EQ(order.oldest(), oldest == nullptr ? std::nullopt : std::optional(*oldest));
  }
}

}  // namespace
}  // namespace baton::scheduler
