#include "transfer/base/log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace baton {
namespace {

// For ThreadSanitizer: nothing but the logger itself orders the two. That spdlog's registry is
// there before either logs is first_log.cc's doing, as it is init_logging()'s in programs.
TEST(Log, TwoThreadsMayLogWhenTheRegistryIsThere) {
  std::atomic<bool> logged = false;
  std::thread first([&] {
    log::info("first");
    logged.store(true, std::memory_order_relaxed);
  });
  std::thread second([&] {
    while (!logged.load(std::memory_order_relaxed)) std::this_thread::yield();
    log::info("second");
  });
  first.join();
  second.join();
  EXPECT_TRUE(logged);
}

}  // namespace
}  // namespace baton
