#include "perf/unchecked_copier.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

namespace baton::bench {
namespace {

constexpr size_t kBytes = 256;

// Ends every copy as it is told to.
class Ending final : public Copier {
 public:
  explicit Ending(Result<Checksum> end) : end_(std::move(end)) {}
  void gather(const KvSegment&, PayloadOrder, const ChecksumSeed&, std::byte*, Done done) override {
    done(end_);
  }
  void scatter(const KvSegment&, PayloadOrder, const ChecksumSeed&, const std::byte*, uint32_t,
               Done done) override {
    done(end_);
  }
  uint32_t depth() const override { return 3; }

 private:
  const Result<Checksum> end_;
};

struct Copies {
  std::optional<Result<Checksum>> gathered, scattered;
};

Copies copy_both_ways(Copier& copier) {
  KvLayout layout;
  layout.block_tokens = 1;
  layout.block_stride = kBytes;
  layout.opaque_block_bytes = kBytes;
  std::vector<std::byte> block(kBytes, std::byte{7}), payload(kBytes);
  const uint32_t first_block = 0;
  const KvSegment segment{block.data(), layout, &first_block, 1};
  Copies ends;
  copier.gather(segment, PayloadOrder::kOpaque, {1, kBytes}, payload.data(),
                [&](const Result<Checksum>& end) { ends.gathered = end; });
  EXPECT_EQ(payload, block);
  std::fill(block.begin(), block.end(), std::byte{0});
  copier.scatter(segment, PayloadOrder::kOpaque, {1, kBytes}, payload.data(), 0,
                 [&](const Result<Checksum>& end) { ends.scattered = end; });
  EXPECT_EQ(payload, block);
  return ends;
}

TEST(UncheckedCopier, CopiesAndTakesNoChecksum) {
  const auto copier = make_unchecked_copier(std::make_unique<Ending>(Checksum{5}));
  const Copies ends = copy_both_ways(*copier);
  EXPECT_EQ(ends.gathered.value().value(), Checksum{});
  EXPECT_EQ(ends.scattered.value().value(), Checksum{});
  EXPECT_EQ(copier->depth(), 3u);
}

TEST(UncheckedCopier, ACopyThatFailedHasFailed) {
  const auto copier =
      make_unchecked_copier(std::make_unique<Ending>(Status(Code::kUnavailable, "gone")));
  const Copies ends = copy_both_ways(*copier);
  EXPECT_EQ(ends.gathered.value().status().code(), Code::kUnavailable);
  EXPECT_EQ(ends.scattered.value().status().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace baton::bench
