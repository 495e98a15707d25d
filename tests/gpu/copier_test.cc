// The GPU's copier: the table of tests/kernels through it, byte for byte against the plain
// reference, with payloads in a pinned arena and in memory that CUDA does not know.
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "tests/gpu/gpu_fixture.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "transfer/cuda/cuda_copier.h"

namespace baton::gpu {
namespace {

using cases::Rng;

constexpr int kRounds = 40;
constexpr uint32_t kMost = 3 * kBatchSegments;

enum class PayloadIn : uint8_t { kPinnedArena, kOtherMemory };

class CopierTest : public ::testing::TestWithParam<PayloadIn> {
 protected:
  void SetUp() override { BATON_NEEDS_GPU(); }

  // A copier for this batch, and a place for each of its payloads.
  void open(cases::Batch& batch) {
    cuda::CudaCopierConfig config;
    config.on_bounced = [this](uint64_t bytes) { bounced_ += bytes; };
    size_t all = 0;
    for (const LaunchSegment& s : batch.segments) {
      const size_t bytes = segment_bytes(s.segment.layout, s.segment.tokens);
      config.segment_bytes = std::max(config.segment_bytes, bytes);
      config.segment_blocks =
          std::max(config.segment_blocks, blocks_for(s.segment.layout, s.segment.tokens));
      offsets_.push_back(all);
      all += bytes + kGap;
    }
    payload_bytes_ = all;
    other_.assign(all, kPoison);
    if (GetParam() == PayloadIn::kPinnedArena) {
      auto arena = Arena::create({.name = "gpu-test", .bytes = all});
      ASSERT_TRUE(arena.ok()) << arena.status().to_string();
      auto pool = SlotPool::create(std::move(arena).value(), all);
      ASSERT_TRUE(pool.ok()) << pool.status().to_string();
      slot_ = (*pool)->allocate();
      ASSERT_TRUE(slot_.has_value());
      std::fill(slot_->bytes().begin(), slot_->bytes().end(), kPoison);
      config.pools.push_back(*pool);
    }
    auto made = cuda::make_copier(io_, std::move(config));
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    copier_ = std::move(made).value();
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      std::vector<std::byte>& memory = batch.memories[i].bytes();
      mirrors_.push_back(std::make_unique<Mirror>(memory.data(), memory.size()));
    }
  }
  void close() {
    copier_.reset();
    slot_.reset();
    mirrors_.clear();
    offsets_.clear();
  }

  std::byte* payloads() { return slot_ ? slot_->bytes().data() : other_.data(); }
  KvSegment on_device(const cases::Batch& batch, size_t i) {
    KvSegment segment = batch.segments[i].segment;
    segment.base = mirrors_[i]->on_device(segment.base);
    return segment;
  }
  Copier::Done note(std::vector<Result<Checksum>>& results, size_t i) {
    return [this, &results, i](const Result<Checksum>& checksum) {
      results[i] = checksum;
      if (++finished_ == results.size()) io_.stop();
    };
  }
  // Until every copy is done.
  void run() {
    finished_ = 0;
    io_.restart();
    const auto work = boost::asio::make_work_guard(io_);
    io_.run_for(std::chrono::seconds(60));
  }

  static constexpr std::byte kPoison{0xdb};
  static constexpr size_t kGap = 37;  // payloads begin at odd places

  boost::asio::io_context io_;
  std::unique_ptr<Copier> copier_;
  std::optional<SlotRef> slot_;
  std::vector<std::byte> other_;
  size_t payload_bytes_ = 0;
  std::vector<size_t> offsets_;
  std::vector<std::unique_ptr<Mirror>> mirrors_;
  size_t finished_ = 0;
  uint64_t bounced_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Payloads, CopierTest,
                         ::testing::Values(PayloadIn::kPinnedArena, PayloadIn::kOtherMemory),
                         [](const auto& info) {
                           return info.param == PayloadIn::kPinnedArena ? "PinnedArena"
                                                                        : "OtherMemory";
                         });

const Result<Checksum> kNone = Status(Code::kCancelled, "never called");

TEST_P(CopierTest, Gather) {
  Rng rng(51);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    cases::Batch batch = cases::random_batch(rng, kMost);
    const size_t count = batch.segments.size();
    open(batch);
    if (HasFatalFailure()) return;
    std::vector<std::byte> expected(payload_bytes_, kPoison);
    std::vector<Result<Checksum>> results(count, kNone);
    bounced_ = 0;
    uint64_t all = 0;
    for (size_t i = 0; i < count; ++i) {
      const LaunchSegment& s = batch.segments[i];
      reference::gather(s.segment, s.order, expected.data() + offsets_[i]);
      copier_->gather(on_device(batch, i), s.order, s.seed, payloads() + offsets_[i],
                      note(results, i));
      all += segment_bytes(s.segment.layout, s.segment.tokens);
    }
    run();
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), payloads())) << "round " << round;
    for (size_t i = 0; i < count; ++i) {
      const LaunchSegment& s = batch.segments[i];
      ASSERT_TRUE(results[i].ok()) << results[i].status().to_string();
      EXPECT_EQ(*results[i], reference::checksum(s.seed, expected.data() + offsets_[i],
                                                 segment_bytes(s.segment.layout, s.segment.tokens)))
          << cases::describe(s.segment);
    }
    EXPECT_EQ(bounced_, GetParam() == PayloadIn::kPinnedArena ? 0 : all);
    close();
  }
}

TEST_P(CopierTest, Scatter) {
  Rng rng(52);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    cases::Batch batch = cases::random_batch(rng, kMost);
    const size_t count = batch.segments.size();
    open(batch);
    if (HasFatalFailure()) return;
    std::vector<Result<Checksum>> results(count, kNone);
    for (size_t i = 0; i < count; ++i) {
      const LaunchSegment& s = batch.segments[i];
      const size_t bytes = segment_bytes(s.segment.layout, s.segment.tokens);
      std::copy_n(s.payload, bytes, payloads() + offsets_[i]);
      copier_->scatter(on_device(batch, i), s.order, s.seed, payloads() + offsets_[i],
                       s.first_token, note(results, i));
    }
    run();
    for (size_t i = 0; i < count; ++i) {
      const LaunchSegment& s = batch.segments[i];
      ASSERT_TRUE(results[i].ok()) << results[i].status().to_string();
      EXPECT_EQ(*results[i], reference::checksum(s.seed, s.payload,
                                                 segment_bytes(s.segment.layout, s.segment.tokens)))
          << cases::describe(s.segment);
      reference::scatter(s.segment, s.order, s.payload, s.first_token);
      const std::vector<std::byte> expected = batch.memories[i].bytes();
      mirrors_[i]->download();
      EXPECT_TRUE(batch.memories[i].bytes() == expected)
          << cases::describe(s.segment) << ", from token " << s.first_token;
    }
    close();
  }
}

// Not a wrong byte, and the copies before and after it go on.
TEST_P(CopierTest, WhatDoesNotFitIsRefused) {
  Rng rng(53);
  cases::Batch batch = cases::random_batch(rng, 1);
  open(batch);
  if (HasFatalFailure()) return;
  const LaunchSegment& s = batch.segments[0];
  KvSegment longer = on_device(batch, 0);
  longer.tokens += 100'000;
  const PayloadOrder wrong_order =
      s.order == PayloadOrder::kOpaque ? PayloadOrder::kTokenHead : PayloadOrder::kOpaque;
  std::vector<Result<Checksum>> results(3, kNone);
  copier_->gather(longer, s.order, s.seed, payloads(), note(results, 0));
  copier_->gather(on_device(batch, 0), wrong_order, s.seed, payloads(), note(results, 1));
  copier_->gather(on_device(batch, 0), s.order, s.seed, payloads() + offsets_[0], note(results, 2));
  run();
  EXPECT_EQ(results[0].status().code(), Code::kInvalidArgument);
  EXPECT_EQ(results[1].status().code(), Code::kInvalidArgument);
  EXPECT_TRUE(results[2].ok()) << results[2].status().to_string();
}

TEST(CopierConfigTest, MemoryIsWhereItIsSaidToBe) {
  BATON_NEEDS_GPU();
  std::vector<std::byte> host(4096);
  const Mirror mirror(host.data(), host.size());
  KvMemory kv;
  kv.layout = {.block_tokens = 1, .block_stride = 1024, .opaque_block_bytes = 1024};
  kv.blocks = 4;
  kv.cuda_device = 0;
  kv.layer_base = {mirror.device()};
  EXPECT_TRUE(cuda::check_memory(kv).ok()) << cuda::check_memory(kv).to_string();
  kv.layer_base.push_back(host.data());
  const Status refused = cuda::check_memory(kv);
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_NE(refused.message().find("layer 1 lies in host memory"), std::string::npos)
      << refused.to_string();
  kv.cuda_device = 9999;
  EXPECT_FALSE(cuda::check_memory(kv).ok());
}

}  // namespace
}  // namespace baton::gpu
