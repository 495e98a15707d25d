#include "kernels/scatter.h"

#include <algorithm>
#include <cstring>

#include "kernels/segment_plan.h"
#include "kernels/stripes.h"

namespace baton {
namespace {

// From here on the blocks outgrow the caches anyway, and stores that go past them save reading
// what is about to be overwritten.
constexpr uint64_t kStreamSegmentBytes = 256 << 10;

// Hands out the payload run by run. Stripes that fall within one run go straight to the block;
// others are loaded into a stripe's worth of buffer, once, and checked and handed out from there.
class ScatterPass {
 public:
  ScatterPass(const StripeOps& ops, const ChecksumSeed& seed, const std::byte* payload,
              uint64_t bytes)
      : ops_(ops),
        copy_(bytes >= kStreamSegmentBytes ? ops.stream : ops.copy),
        seed_(seed),
        payload_(payload),
        bytes_(bytes) {}

  void add(Run run) {
    while (run.bytes > 0) {
      size_t done;
      if (taken_ == staged_ && run.bytes >= kStripeBytes) {
        done = pass_stripes(run);
      } else {
        if (taken_ == staged_) load();
        done = std::min<uint64_t>(run.bytes, staged_ - taken_);
        if (run.at != nullptr) put(run, stage_ + taken_, done);
        taken_ += done;
      }
      if (run.at != nullptr) run.at += done;
      if (run.next != nullptr) run.next += done;
      run.bytes -= done;
    }
  }

  uint64_t sum() const { return sum_; }

 private:
  size_t pass_stripes(const Run& run) {
    const size_t stripes = run.bytes / kStripeBytes;
    const StripeRun todo{payload_ + position_ * kStripeBytes, run.at, stripes, position_, nullptr};
    sum_ += run.at != nullptr ? copy_(seed_, todo) : ops_.sum(seed_, todo);
    position_ += stripes;
    return stripes * kStripeBytes;
  }

  static void put(const Run& run, const std::byte* from, size_t bytes) {
    if (run.next != nullptr) {  // short runs: the same one of the next block, to be written soon
      for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(run.next + line, 1);
    }
    std::memcpy(run.at, from, bytes);
  }

  void load() {
    const std::byte* from = payload_ + position_ * kStripeBytes;
    staged_ = std::min<uint64_t>(kStripeBytes, bytes_ - position_ * kStripeBytes);
    taken_ = 0;
    if (staged_ == kStripeBytes) {
      sum_ += ops_.copy(seed_, {from, stage_, 1, position_, nullptr});
    } else {
      std::memcpy(stage_, from, staged_);
      sum_ += tail_value(seed_, stage_, staged_, position_);
    }
    ++position_;
  }

  const StripeOps& ops_;
  uint64_t (*const copy_)(const ChecksumSeed&, const StripeRun&);
  const ChecksumSeed seed_;
  const std::byte* const payload_;
  const uint64_t bytes_;
  uint64_t position_ = 0;  // of the next stripe to be read
  size_t staged_ = 0;      // bytes in stage_
  size_t taken_ = 0;       // of them, handed out
  uint64_t sum_ = 0;
  alignas(64) std::byte stage_[kStripeBytes];
};

}  // namespace

Checksum scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
                 const std::byte* payload, uint32_t first_token, Isa isa) {
  const SegmentPlan plan = make_plan(to, order, first_token);
  ScatterPass pass(stripe_ops(isa), seed, payload, plan.bytes());
  for_each_run(plan, to.base, to.blocks, [&](const Run& run) { pass.add(run); });
  stream_fence();
  return {checksum_start(seed, plan.bytes()) + pass.sum()};
}

}  // namespace baton
