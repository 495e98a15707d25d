#include "scheduler/eviction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <string>

namespace baton::scheduler {
namespace {

std::string drain(LruOrder<char>& order) {
  std::string left;
  while (const char* oldest = order.oldest()) {
    left += *oldest;
    EXPECT_TRUE(order.remove(*oldest));
  }
  return left;
}

TEST(LruOrder, OldestFirst) {
  LruOrder<char> order;
  EXPECT_EQ(order.oldest(), nullptr);
  for (const char key : {'a', 'b', 'c'}) order.touch(key);
  EXPECT_EQ(order.size(), 3u);
  EXPECT_EQ(drain(order), "abc");
  EXPECT_EQ(order.size(), 0u);
}

TEST(LruOrder, TouchMakesMostRecent) {
  LruOrder<char> order;
  for (const char key : {'a', 'b', 'c', 'a', 'b', 'b'}) order.touch(key);
  EXPECT_EQ(order.size(), 3u);
  EXPECT_EQ(drain(order), "cab");
}

TEST(LruOrder, RemoveTakesOutOfTheMiddle) {
  LruOrder<char> order;
  for (const char key : {'a', 'b', 'c'}) order.touch(key);
  EXPECT_TRUE(order.remove('b'));
  EXPECT_FALSE(order.remove('b'));
  order.touch('d');
  order.touch('b');
  EXPECT_EQ(drain(order), "acdb");
}

TEST(LruOrder, BehavesLikeAListSearchedFromTheFront) {
  LruOrder<int> order;
  std::deque<int> expected;
  std::mt19937 random(7);
  for (int step = 0; step < 20000; ++step) {
    const int key = static_cast<int>(random() % 32);
    const auto at = std::find(expected.begin(), expected.end(), key);
    const bool held = at != expected.end();
    if (held) expected.erase(at);
    if (random() % 3 == 0) {
      ASSERT_EQ(order.remove(key), held);
    } else {
      order.touch(key);
      expected.push_back(key);
    }
    ASSERT_EQ(order.size(), expected.size());
    if (expected.empty()) {
      ASSERT_EQ(order.oldest(), nullptr);
    } else {
      ASSERT_EQ(*order.oldest(), expected.front());
    }
  }
}

}  // namespace
}  // namespace baton::scheduler
