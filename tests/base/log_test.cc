#include "transfer/base/log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

namespace baton {
namespace {

TEST(Log, ALineHasItsLevelAndItsArguments) {
  ::testing::internal::CaptureStdout();
  log::debug("line {}", 1);  // the level is info
  log::info("line {}", 2);
  log::warn("line {} {:.1f}", 3, 2.75);
  log::error("line {} \"{}\"", 4, std::string("{}"));
  log::critical("line {}", true);
  log::log(log::Level::kWarn, "line {}", 6u);
  log::flush();
  std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(said.find("line 1"), said.npos) << said;
  for (const char* const line :
       {"[info] line 2\n", "[warning] line 3 2.8\n", "[error] line 4 \"{}\"\n",
        "[critical] line true\n", "[warning] line 6\n"})
    EXPECT_NE(said.find(line), said.npos) << line << said;
}

TEST(Log, WritesFromTheLevelOnThatIsSet) {
  EXPECT_TRUE(log::writes(log::Level::kInfo));
  EXPECT_FALSE(log::writes(log::Level::kDebug));
  log::set_level(log::Level::kError);
  EXPECT_FALSE(log::writes(log::Level::kWarn));
  EXPECT_TRUE(log::writes(log::Level::kError));
  log::set_level(log::Level::kInfo);
}

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
