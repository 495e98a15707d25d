#include "examples/reference_engine/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>

namespace baton::reference {
namespace {

TEST(ThreadPoolTest, RunsEveryItemOnceAndItsResultsAreSeen) {
  ThreadPool pool(3);
  EXPECT_EQ(pool.threads(), 3u);
  for (uint32_t round = 0; round < 3000; ++round) {
    const uint32_t items = round % 23;
    std::vector<uint32_t> seen(items, 0);  // plain memory: a race shows under TSan
    pool.parallel_for(items, [&](uint32_t item, uint32_t thread) {
      ASSERT_LT(thread, 3u);
      seen[item] += item + 1;
    });
    for (uint32_t i = 0; i < items; ++i) ASSERT_EQ(seen[i], i + 1) << "round " << round;
  }
}

TEST(ThreadPoolTest, WorkersTakeItemsWhileTheCallerIsBusy) {
  ThreadPool pool(2);
  // Neither item can end before the other has begun: only two threads get through this.
  std::atomic<int> begun{0};
  pool.parallel_for(2, [&](uint32_t, uint32_t) {
    begun.fetch_add(1);
    begun.notify_all();
    for (int now; (now = begun.load()) < 2;) begun.wait(now);
  });
  EXPECT_EQ(begun.load(), 2);
}

TEST(ThreadPoolTest, OneThreadIsTheCaller) {
  ThreadPool pool(1);
  const auto self = std::this_thread::get_id();
  uint32_t count = 0;
  pool.parallel_for(5, [&](uint32_t, uint32_t) {
    EXPECT_EQ(std::this_thread::get_id(), self);
    ++count;
  });
  EXPECT_EQ(count, 5u);
}

}  // namespace
}  // namespace baton::reference
