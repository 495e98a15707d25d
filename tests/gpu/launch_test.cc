// The kernels as launched on a GPU: the table of tests/kernels (random layouts, shuffled blocks,
// odd sizes, poison around the tokens), byte for byte against the plain reference.
#include <algorithm>

#include "tests/gpu/gpu_fixture.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/vectors.h"

namespace baton {
namespace {

using cases::choose;
using cases::Rng;

constexpr int kRounds = 300;

// Device copies of host memory, freed together.
class DeviceCopies {
 public:
  ~DeviceCopies() {
    for (void* copy : copies_) cudaFree(copy);
  }

  template <typename T>
  T* copy(const T* from, size_t count) {
    void* to = nullptr;
    if (cudaMalloc(&to, std::max<size_t>(count * sizeof(T), 1)) != cudaSuccess) return nullptr;
    copies_.push_back(to);
    cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice);
    cudaDeviceSynchronize();  // it may have returned before it has arrived
    return static_cast<T*>(to);
  }

 private:
  std::vector<void*> copies_;
};

// A batch of the table on the device; memories[i] and payloads[i] are copies of the host's.
struct DeviceSide {
  DeviceCopies copies;
  std::vector<std::byte*> memories, payloads;
  std::vector<LaunchSegment> segments;
  Checksum* sums = nullptr;

  explicit DeviceSide(cases::Batch& batch) : segments(batch.segments) {
    for (size_t i = 0; i < segments.size(); ++i) {
      LaunchSegment& s = segments[i];
      std::vector<std::byte>& memory = batch.memories[i].bytes();
      std::vector<std::byte>& payload = batch.payloads[i];
      memories.push_back(copies.copy(memory.data(), memory.size()));
      payloads.push_back(copies.copy(payload.data(), payload.size()));
      s.segment.base = memories[i] + (s.segment.base - memory.data());
      s.payload = payloads[i] + (s.payload - payload.data());
      s.segment.blocks = copies.copy(s.segment.blocks, batch.memories[i].blocks().size());
    }
    const std::vector<Checksum> garbage(segments.size(), Checksum{~uint64_t{0}});
    sums = copies.copy(garbage.data(), garbage.size());
  }
};

class LaunchTest : public testing::Test {
 protected:
  void SetUp() override {
    BATON_NEEDS_GPU();
    ASSERT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  static LaunchShape random_shape(Rng& rng) {
    return {choose<uint32_t>(rng, {1, 2, 7, 16, 132}), choose<uint32_t>(rng, {32, 128, 512, 1024})};
  }

  // Waits for the stream; then device memory must equal `expected` and sums the checksums of what
  // the host has as payloads.
  void expect_results(const cases::Batch& batch, const std::vector<std::byte*>& device,
                      const std::vector<std::vector<std::byte>>& expected, const Checksum* sums) {
    ASSERT_CUDA(cudaStreamSynchronize(stream_));
    std::vector<Checksum> got_sums(batch.segments.size());
    ASSERT_CUDA(cudaMemcpy(got_sums.data(), sums, got_sums.size() * sizeof(Checksum),
                           cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const LaunchSegment& s = batch.segments[i];
      std::vector<std::byte> got(expected[i].size());
      ASSERT_CUDA(cudaMemcpy(got.data(), device[i], got.size(), cudaMemcpyDeviceToHost));
      EXPECT_TRUE(got == expected[i])
          << cases::describe(s.segment) << ", from token " << s.first_token;
      const uint64_t bytes = segment_bytes(s.segment.layout, s.segment.tokens);
      EXPECT_EQ(got_sums[i], reference::checksum(s.seed, s.payload, bytes));
    }
  }

  cudaStream_t stream_ = nullptr;
};

TEST_F(LaunchTest, Gather) {
  Rng rng(41);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    cases::Batch batch = cases::random_batch(rng, 3 * kBatchSegments + 1);
    for (LaunchSegment& s : batch.segments) s.first_token = 0;
    DeviceSide device(batch);
    const Status launched = launch_gather(device.segments, device.sums, random_shape(rng), stream_);
    ASSERT_TRUE(launched.ok()) << launched.to_string();
    for (const LaunchSegment& s : batch.segments) reference::gather(s.segment, s.order, s.payload);
    expect_results(batch, device.payloads, batch.payloads, device.sums);
  }
}

TEST_F(LaunchTest, Scatter) {
  Rng rng(42);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    cases::Batch batch = cases::random_batch(rng, 3 * kBatchSegments + 1);
    DeviceSide device(batch);
    const Status launched =
        launch_scatter(device.segments, device.sums, random_shape(rng), stream_);
    ASSERT_TRUE(launched.ok()) << launched.to_string();
    std::vector<std::vector<std::byte>> expected;
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const LaunchSegment& s = batch.segments[i];
      reference::scatter(s.segment, s.order, s.payload, s.first_token);
      expected.push_back(batch.memories[i].bytes());
    }
    expect_results(batch, device.memories, expected, device.sums);
  }
}

TEST_F(LaunchTest, ChecksumVectors) {
  for (const vectors::Vector& v : vectors::kVectors) {
    if (v.bytes == 0) continue;
    DeviceCopies copies;
    const std::vector<std::byte> bytes = vectors::payload(v.bytes);
    const std::vector<std::byte> blank(v.bytes);
    const uint32_t zero = 0;
    KvLayout layout;
    layout.block_tokens = 1;
    layout.opaque_block_bytes = v.bytes;
    layout.block_stride = static_cast<int64_t>(v.bytes);
    const LaunchSegment s{
        {copies.copy(bytes.data(), bytes.size()), layout, copies.copy(&zero, 1), 1},
        PayloadOrder::kOpaque,
        make_seed(vectors::identity(v.bytes)),
        copies.copy(blank.data(), blank.size())};
    const Checksum none[2] = {};
    Checksum* sums = copies.copy(none, 2);
    const std::vector<LaunchSegment> one{s};
    ASSERT_TRUE(launch_gather(one, sums, {}, stream_).ok());
    ASSERT_TRUE(launch_scatter(one, sums + 1, {}, stream_).ok());
    ASSERT_CUDA(cudaStreamSynchronize(stream_));
    Checksum got[2];
    ASSERT_CUDA(cudaMemcpy(got, sums, sizeof got, cudaMemcpyDeviceToHost));
    EXPECT_EQ(got[0].value, v.checksum) << v.bytes;
    EXPECT_EQ(got[1].value, v.checksum) << v.bytes;
  }
}

// Payloads in mapped pinned memory: what a gather into a host arena writes.
TEST_F(LaunchTest, IntoPinnedHostMemory) {
  Rng rng(43);
  for (int round = 0; round < 20 && !HasFailure(); ++round) {
    cases::Batch batch = cases::random_batch(rng, kBatchSegments);
    for (LaunchSegment& s : batch.segments) s.first_token = 0;
    DeviceSide device(batch);
    std::vector<std::byte*> pinned;
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      std::vector<std::byte>& payload = batch.payloads[i];
      void* memory = nullptr;
      ASSERT_CUDA(cudaHostAlloc(&memory, payload.size(), cudaHostAllocMapped));
      std::copy(payload.begin(), payload.end(), static_cast<std::byte*>(memory));
      pinned.push_back(static_cast<std::byte*>(memory));
      device.segments[i].payload = pinned[i] + (batch.segments[i].payload - payload.data());
    }
    const Status launched = launch_gather(device.segments, device.sums, {}, stream_);
    ASSERT_TRUE(launched.ok()) << launched.to_string();
    for (const LaunchSegment& s : batch.segments) reference::gather(s.segment, s.order, s.payload);
    expect_results(batch, pinned, batch.payloads, device.sums);
    for (std::byte* memory : pinned) cudaFreeHost(memory);
  }
}

}  // namespace
}  // namespace baton
