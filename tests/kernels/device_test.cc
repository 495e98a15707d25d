// The kernels' bodies, run on the host over the whole grid: every worker and every lane, in
// shuffled order, into memory of exact size under the sanitizers. What runs on a GPU differs by the
// warp and the launch alone (tests/gpu).
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/gather.h"
#include "kernels/gather_device.h"
#include "kernels/launch_batch.h"
#include "kernels/scatter_device.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/vectors.h"

namespace baton {
namespace {

using cases::choose;
using cases::Memory;
using cases::pick;
using cases::Rng;

#ifdef BATON_SANITIZED
constexpr int kDeviceRounds = 60;
#else
constexpr int kDeviceRounds = 400;
#endif

// A warp whose lanes run one after the other, each time in another order.
class HostTeam {
 public:
  explicit HostTeam(Rng& rng) : rng_(rng) {
    std::iota(lanes_.begin(), lanes_.end(), 0u);
    for (uint32_t lane = 0; lane < kLanes; ++lane) keys_[lane] = lane_keys(kNhKeys, lane);
  }

  template <typename F>
  NhPair sum(F&& of_lane) {
    std::rotate(lanes_.begin(), lanes_.begin() + pick(rng_, 0, kLanes - 1), lanes_.end());
    NhPair nh;
    for (const uint32_t lane : lanes_) nh = nh + of_lane(keys_[lane], lane);
    return nh;
  }

  void add(uint64_t* sum, uint64_t value) { *sum += value; }

 private:
  Rng& rng_;
  std::array<uint32_t, kLanes> lanes_;
  std::array<LaneKeys, kLanes> keys_;
};

template <typename Body>
std::vector<uint64_t> run_grid(Rng& rng, const std::vector<LaunchSegment>& segments) {
  const Result<DeviceBatch> batch = make_batch(segments);
  EXPECT_TRUE(batch.ok()) << batch.status().to_string();
  std::vector<uint32_t> workers(choose<uint32_t>(rng, {1, 2, 7, 16, 64}));
  std::iota(workers.begin(), workers.end(), 0u);
  std::shuffle(workers.begin(), workers.end(), rng);
  std::vector<uint64_t> sums(segments.size());
  HostTeam team(rng);
  for (const uint32_t worker : workers) {
    run_worker<Body>(*batch, sums.data(), worker, workers.size(), team);
  }
  return sums;
}

TEST(DeviceBodyTest, Gather) {
  Rng rng(21);
  for (int round = 0; round < kDeviceRounds && !testing::Test::HasFailure(); ++round) {
    cases::Batch batch = cases::random_batch(rng, kBatchSegments);
    std::vector<std::vector<std::byte>> expected = batch.payloads;
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const LaunchSegment& s = batch.segments[i];
      const size_t shift = s.payload - batch.payloads[i].data();
      reference::gather(s.segment, s.order, expected[i].data() + shift);
    }
    for (LaunchSegment& s : batch.segments) s.first_token = 0;
    const std::vector<uint64_t> sums = run_grid<GatherBody>(rng, batch.segments);
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const LaunchSegment& s = batch.segments[i];
      EXPECT_TRUE(batch.payloads[i] == expected[i]) << cases::describe(s.segment);
      const uint64_t bytes = segment_bytes(s.segment.layout, s.segment.tokens);
      EXPECT_EQ(sums[i], checksum(s.seed, s.payload, bytes).value);
    }
  }
}

TEST(DeviceBodyTest, Scatter) {
  Rng rng(22);
  for (int round = 0; round < kDeviceRounds && !testing::Test::HasFailure(); ++round) {
    cases::Batch batch = cases::random_batch(rng, kBatchSegments);
    std::vector<std::vector<std::byte>> expected;
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const LaunchSegment& s = batch.segments[i];
      const std::vector<std::byte> before = batch.memories[i].bytes();
      reference::scatter(s.segment, s.order, s.payload, s.first_token);
      expected.push_back(batch.memories[i].bytes());
      std::copy(before.begin(), before.end(), batch.memories[i].bytes().begin());
    }
    const std::vector<uint64_t> sums = run_grid<ScatterBody>(rng, batch.segments);
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const LaunchSegment& s = batch.segments[i];
      EXPECT_TRUE(batch.memories[i].bytes() == expected[i])
          << cases::describe(s.segment) << ", from token " << s.first_token;
      const uint64_t bytes = segment_bytes(s.segment.layout, s.segment.tokens);
      EXPECT_EQ(sums[i], checksum(s.seed, s.payload, bytes).value);
    }
  }
}

TEST(DeviceBodyTest, ChecksumVectors) {
  Rng rng(23);
  const uint32_t zero = 0;
  for (const vectors::Vector& v : vectors::kVectors) {
    if (v.bytes == 0) continue;
    std::vector<std::byte> bytes = vectors::payload(v.bytes);
    std::vector<std::byte> copy(v.bytes);
    KvLayout layout;
    layout.block_tokens = 1;
    layout.opaque_block_bytes = v.bytes;
    layout.block_stride = static_cast<int64_t>(v.bytes);
    const ChecksumSeed seed = make_seed(vectors::identity(v.bytes));
    LaunchSegment s{{bytes.data(), layout, &zero, 1}, PayloadOrder::kOpaque, seed, copy.data()};
    EXPECT_EQ(run_grid<GatherBody>(rng, {s})[0], v.checksum) << v.bytes;
    EXPECT_EQ(copy, bytes);
    EXPECT_EQ(run_grid<ScatterBody>(rng, {s})[0], v.checksum) << v.bytes;
  }
}

TEST(DeviceBodyTest, EmptySegmentsHaveTheirChecksum) {
  Rng rng(24);
  Memory memory(rng, cases::random_shape(rng, {2, 2, 16, 5}), 5);
  LaunchSegment none{memory.segment(), PayloadOrder::kTokenHead, {3, 4}};
  none.segment.tokens = 0;
  const std::vector<uint64_t> sums = run_grid<GatherBody>(rng, {none, none});
  EXPECT_EQ(sums[0], checksum({3, 4}, nullptr, 0).value);
  EXPECT_EQ(sums[1], sums[0]);
}

TEST(DividerTest, IsExact) {
  Rng rng(25);
  constexpr uint32_t kMost = (uint32_t{1} << 31) - 1;
  std::vector<uint32_t> divisors(1000);
  std::iota(divisors.begin(), divisors.end(), 1u);
  for (uint32_t bit = 10; bit <= 31; ++bit) {
    for (const int near : {-1, 0, 1}) {
      if (bit < 31 || near < 1) divisors.push_back((uint32_t{1} << bit) + near);
    }
  }
  for (int i = 0; i < 5000; ++i) divisors.push_back(pick(rng, 1, kMost));
  for (const uint32_t d : divisors) {
    const Divider divider = make_divider(d);
    const auto expect = [&](uint32_t n) { ASSERT_EQ(divider.divide(n), n / d) << n << " / " << d; };
    for (int i = 0; i < 50; ++i) {
      const uint32_t n = pick(rng, 0, kMost);
      expect(n);
      const uint32_t multiple = n / d * d;  // where a quotient off by one shows
      expect(multiple);
      if (multiple > 0) expect(multiple - 1);
    }
    expect(kMost);
    expect(0);
  }
}

TEST(LaunchBatchTest, RefusesWhatKernelsCannotTake) {
  Rng rng(26);
  Memory memory(rng, cases::random_shape(rng, {2, 2, 16, 5}), 5);
  const LaunchSegment good{memory.segment(), PayloadOrder::kTokenHead};
  const auto code = [](const LaunchSegment& s) {
    return make_batch(std::vector<LaunchSegment>{s}).status().code();
  };
  EXPECT_EQ(code(good), Code::kOk);
  EXPECT_EQ(make_batch(std::vector<LaunchSegment>(kBatchSegments + 1, good)).status().code(),
            Code::kInvalidArgument);
  LaunchSegment bad = good;
  bad.order = PayloadOrder::kOpaque;
  EXPECT_EQ(code(bad), Code::kInvalidArgument);
  bad = good;
  bad.first_token = 6;
  EXPECT_EQ(code(bad), Code::kInvalidArgument);
  bad = good;
  bad.segment.layout.heads = 0;
  EXPECT_EQ(code(bad), Code::kInvalidArgument);
  bad = good;
  bad.segment.tokens = uint32_t{1} << 25;  // 64 bytes each
  EXPECT_EQ(code(bad), Code::kInvalidArgument);
  bad = good;
  bad.segment.layout = {};
  bad.segment.layout.block_tokens = 16;
  bad.segment.layout.opaque_block_bytes = 1000;
  bad.segment.layout.block_stride = 1000;
  bad.order = PayloadOrder::kOpaque;
  bad.first_token = 3;
  EXPECT_EQ(code(bad), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton
