// What the launches answer where no GPU is; what they do on one is in tests/gpu.
#include "kernels/cuda.h"

#include <gtest/gtest.h>

#include "tests/kernels/cases.h"

namespace baton {
namespace {

TEST(CudaTest, RefusesBeforeAskingTheGpu) {
  cases::Rng rng(31);
  const cases::Batch batch = cases::random_batch(rng, 3);
  for (const LaunchShape shape :
       {LaunchShape{0, 512}, LaunchShape{16, 0}, LaunchShape{16, 100}, LaunchShape{16, 2048}}) {
    EXPECT_EQ(launch_gather(batch.segments, nullptr, shape, nullptr).code(),
              Code::kInvalidArgument);
  }
  std::vector<LaunchSegment> bad = batch.segments;
  bad.back().segment.layout.block_tokens = 0;
  EXPECT_EQ(launch_scatter(bad, nullptr, {}, nullptr).code(), Code::kInvalidArgument);
  EXPECT_TRUE(launch_gather({}, nullptr, {}, nullptr).ok());
}

TEST(CudaTest, WithoutAGpuLaunchesAreUnavailable) {
  const Status usable = cuda_usable();
  if (usable.ok()) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(usable.code(), Code::kUnavailable) << usable.to_string();
  EXPECT_NE(usable.native(), 0);
  cases::Rng rng(32);
  const cases::Batch batch = cases::random_batch(rng, 3);
  std::vector<Checksum> sums(batch.segments.size());
  const Status launched = launch_gather(batch.segments, sums.data(), {}, nullptr);
  EXPECT_EQ(launched.code(), Code::kUnavailable) << launched.to_string();
  EXPECT_EQ(launched.native(), usable.native());
}

}  // namespace
}  // namespace baton
