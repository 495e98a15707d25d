// What the copier does when its GPU breaks, at every point of a copy. The rest of its tests are
// tests/gpu/copier_test.cc and handoff_test.cc, which run here on a fake GPU.
#include <gtest/gtest.h>

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <future>
#include <thread>

#include "tests/fakes/fake_cuda.h"
#include "tests/gpu/gpu_fixture.h"
#include "transfer/base/log.h"
#include "transfer/cuda/cuda_copier.h"
#include "transfer/cuda/observed_time.h"

namespace baton::gpu {
namespace {

using fakes::fake_cuda::break_after;
using fakes::fake_cuda::hold;
using fakes::fake_cuda::let_go;
using fakes::fake_cuda::mend;

class BrokenGpu : public ::testing::Test {
 protected:
  static constexpr size_t kBlock = 4096;

  BrokenGpu() {
    layout_.block_tokens = 1;
    layout_.block_stride = kBlock;
    layout_.opaque_block_bytes = kBlock;
  }
  ~BrokenGpu() override { mend(); }

  Result<std::unique_ptr<Copier>> open(Duration late_after = std::chrono::hours(1)) {
    return cuda::make_copier(io_, {.segment_bytes = kBlock,
                                   .segment_blocks = 1,
                                   .bays = 2,
                                   .late_after = late_after,
                                   .on_late = [this] { late(); }});
  }
  // Both copies that are under way are late: now they may end.
  void late() {
    if (++late_ == 2) let_go();
  }

  uint32_t late_ = 0;
  boost::asio::io_context io_;
  KvLayout layout_;
  static constexpr uint32_t kCopies = 7;  // more than there are bays; each has a block of its own
  std::vector<std::byte> blocks_ = std::vector<std::byte>(kCopies * kBlock, std::byte{7});
  std::vector<std::byte> payloads_ = std::vector<std::byte>(kCopies * kBlock);
  const std::array<uint32_t, kCopies> block_{0, 1, 2, 3, 4, 5, 6};
};

TEST_F(BrokenGpu, EveryCopyComesBackOnceWithTheReason) {
  for (uint32_t operations = 0; operations <= 5 * kCopies + 1; ++operations) {
    auto copier = open();
    ASSERT_TRUE(copier.ok()) << copier.status().to_string();
    const Mirror mirror(blocks_.data(), blocks_.size());
    break_after(static_cast<int>(operations));
    uint32_t done = 0, failed = 0;
    for (uint32_t i = 0; i < kCopies; ++i) {
      const auto note = [&, i](const Result<Checksum>& checksum) {
        ++done;
        if (!checksum.ok()) {
          ++failed;
          EXPECT_EQ(checksum.status().native(), cudaErrorLaunchFailure);
        } else {
          EXPECT_EQ(*checksum, baton::checksum({1, 2}, blocks_.data(), kBlock)) << i;
        }
        if (done == kCopies) io_.stop();
      };
      const KvSegment segment{mirror.device(), layout_, &block_[i], 1};
      if (i % 2 == 0) {
        (*copier)->gather(segment, PayloadOrder::kOpaque, {1, 2}, payloads_.data() + i * kBlock,
                          note);
      } else {
        (*copier)->scatter(segment, PayloadOrder::kOpaque, {1, 2}, blocks_.data(), 0, note);
      }
    }
    io_.restart();
    const auto work = boost::asio::make_work_guard(io_);
    io_.run_for(std::chrono::seconds(60));
    EXPECT_EQ(done, kCopies);
    // Five operations a copy: the block list, the payload, the kernel, the checksum, the event.
    EXPECT_EQ(failed == 0, operations > 5 * kCopies) << operations;
    copier->reset();
    mend();
  }
}

TEST_F(BrokenGpu, ItIsNotTriedAgainAndSaidOnce) {
  auto copier = open();
  ASSERT_TRUE(copier.ok()) << copier.status().to_string();
  const Mirror mirror(blocks_.data(), blocks_.size());
  const auto gather_all = [&] {
    uint32_t failed = 0, done = 0;
    for (uint32_t i = 0; i < kCopies; ++i)
      (*copier)->gather({mirror.device(), layout_, &block_[i], 1}, PayloadOrder::kOpaque, {1, 2},
                        payloads_.data() + i * kBlock, [&](const Result<Checksum>& checksum) {
                          failed += checksum.status().native() == cudaErrorLaunchFailure;
                          if (++done == kCopies) io_.stop();
                        });
    EXPECT_EQ(done, 0u);  // never inside the call
    io_.restart();
    const auto work = boost::asio::make_work_guard(io_);
    io_.run_for(std::chrono::seconds(60));
    EXPECT_EQ(done, kCopies);
    return failed;
  };
  testing::internal::CaptureStdout();
  break_after(3);  // within the first copy
  EXPECT_EQ(gather_all(), kCopies);
  mend();  // it would work again, if it were tried
  EXPECT_EQ(gather_all(), kCopies);
  log::flush();
  const std::string said = testing::internal::GetCapturedStdout();
  const size_t first = said.find("[error]");
  EXPECT_NE(first, std::string::npos);
  EXPECT_EQ(said.find("[error]", first + 1), std::string::npos) << said;
}

TEST_F(BrokenGpu, ACopyThatHangsIsSaidAndCountedOnceAndWaitedFor) {
  const auto occurrences = [](const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++count;
    return count;
  };
  const Mirror mirror(blocks_.data(), blocks_.size());
  auto copier = open(std::chrono::milliseconds(100));
  ASSERT_TRUE(copier.ok()) << copier.status().to_string();
  testing::internal::CaptureStdout();
  hold();
  uint32_t done = 0;
  // As many as there are bays: these are on the GPU, and nothing else waits.
  for (uint32_t i = 0; i < 2; ++i)
    (*copier)->gather({mirror.device(), layout_, &block_[i], 1}, PayloadOrder::kOpaque, {1, 2},
                      payloads_.data() + i * kBlock, [&](const Result<Checksum>& checksum) {
                        EXPECT_TRUE(checksum.ok());
                        EXPECT_EQ(late_, 2u);  // not before both were said to be late
                        if (++done == 2) io_.stop();
                      });
  const auto work = boost::asio::make_work_guard(io_);
  io_.run_for(std::chrono::seconds(60));
  let_go();
  EXPECT_EQ(done, 2u);
  EXPECT_EQ(late_, 2u);
  log::flush();
  const std::string said = testing::internal::GetCapturedStdout();
  EXPECT_EQ(occurrences(said, "has not ended device=0 copy=gather bytes=4096"), 2u) << said;
  EXPECT_EQ(occurrences(said, "a late copy on the GPU has ended"), 2u) << said;
}

TEST_F(BrokenGpu, WhileTheThreadThatWatchesDoesNotRunNoCopyBecomesLate) {
  const Mirror mirror(blocks_.data(), blocks_.size());
  const auto late_after = std::chrono::milliseconds(300);
  auto copier = open(late_after);
  ASSERT_TRUE(copier.ok()) << copier.status().to_string();
  hold();
  for (uint32_t i = 0; i < 2; ++i)
    (*copier)->gather({mirror.device(), layout_, &block_[i], 1}, PayloadOrder::kOpaque, {1, 2},
                      payloads_.data() + i * kBlock, [](const Result<Checksum>&) {});
  const auto work = boost::asio::make_work_guard(io_);
  // Long after both would be late by the clock, the thread looks for the first time.
  std::this_thread::sleep_for(2 * late_after);
  EXPECT_NE(io_.run_one_for(std::chrono::seconds(60)), 0u);
  EXPECT_EQ(late_, 0u);
  // From now on it does run: they are late.
  const TimePoint deadline = now() + std::chrono::seconds(60);
  while (late_ < 2 && now() < deadline) io_.run_one_for(std::chrono::milliseconds(10));
  let_go();
  EXPECT_EQ(late_, 2u);
}

TEST(ObservedTime, CountsWhatWasLookedAtAndNoAbsence) {
  using std::chrono::seconds;
  const TimePoint start{};
  cuda::ObservedTime time(start, seconds(1));
  EXPECT_EQ(time.look(start + seconds(1)), seconds(1));
  EXPECT_EQ(time.look(start + seconds(3)), seconds(3));  // a tick late
  EXPECT_EQ(time.look(start + seconds(100)), seconds(3));
  EXPECT_EQ(time.look(start + seconds(101)), seconds(4));
}

TEST_F(BrokenGpu, NoCopierIsMadeForIt) {
  for (int operations = 0; operations <= 8; ++operations) {
    break_after(operations);
    const auto copier = open();
    EXPECT_FALSE(copier.ok()) << operations;
    mend();
  }
  EXPECT_TRUE(open().ok());
}

TEST_F(BrokenGpu, ACopierThatGoesWaitsForWhatIsUnderWay) {
  const Mirror mirror(blocks_.data(), blocks_.size());
  auto copier = open();
  ASSERT_TRUE(copier.ok()) << copier.status().to_string();
  hold();
  bool called = false;
  for (uint32_t i = 0; i < kCopies; ++i)
    (*copier)->gather({mirror.device(), layout_, &block_[i], 1}, PayloadOrder::kOpaque, {1, 2},
                      payloads_.data() + i * kBlock,
                      [&](const Result<Checksum>&) { called = true; });
  std::promise<void> gone;
  std::future<void> is_gone = gone.get_future();
  std::thread destroyer([&] {
    copier->reset();
    gone.set_value();
  });
  EXPECT_EQ(is_gone.wait_for(std::chrono::milliseconds(200)), std::future_status::timeout);
  let_go();
  EXPECT_EQ(is_gone.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  destroyer.join();
  EXPECT_FALSE(called);  // the io_context has not run: nobody is told
}

}  // namespace
}  // namespace baton::gpu
