#include "kernels/gather.h"

#include <algorithm>
#include <cstring>

#include "kernels/segment_plan.h"
#include "kernels/stripes.h"

namespace baton {
namespace {

// Takes the payload run by run. Stripes that lie within one run go straight to the payload; others
// are put together in a stripe's worth of buffer first.
class GatherPass {
 public:
  GatherPass(const StripeOps& ops, const ChecksumSeed& seed, std::byte* payload)
      : ops_(ops), seed_(seed), payload_(payload) {}

  void add(Run run) {
    while (run.bytes > 0) {
      if (filled_ == 0 && run.bytes >= kStripeBytes && run.at != nullptr) {
        const size_t stripes = run.bytes / kStripeBytes;
        copy_stripes(run.at, stripes, run.next);
        advance(run, stripes * kStripeBytes);
      } else {
        const size_t taken = std::min<uint64_t>(run.bytes, kStripeBytes - filled_);
        fill(run, taken);
        advance(run, taken);
      }
    }
  }

  uint64_t finish() {
    if (filled_ > 0) {
      std::memcpy(payload_ + position_ * kStripeBytes, stage_, filled_);
      sum_ += tail_value(seed_, stage_, filled_, position_);
    }
    return sum_;
  }

 private:
  static void advance(Run& run, size_t bytes) {
    if (run.at != nullptr) run.at += bytes;
    if (run.next != nullptr) run.next += bytes;
    run.bytes -= bytes;
  }

  void fill(const Run& run, size_t bytes) {
    if (run.at != nullptr) {
      std::memcpy(stage_ + filled_, run.at, bytes);
    } else {
      std::memset(stage_ + filled_, 0, bytes);
    }
    if (run.next != nullptr) {
      for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(run.next + line);
    }
    filled_ += bytes;
    if (filled_ == kStripeBytes) {
      copy_stripes(stage_, 1, nullptr);
      filled_ = 0;
    }
  }

  void copy_stripes(const std::byte* from, size_t stripes, const std::byte* next) {
    sum_ += ops_.copy(seed_, {from, payload_ + position_ * kStripeBytes, stripes, position_, next});
    position_ += stripes;
  }

  const StripeOps& ops_;
  const ChecksumSeed seed_;
  std::byte* const payload_;
  uint64_t position_ = 0;  // of the next stripe to be written
  size_t filled_ = 0;      // bytes of it in stage_
  uint64_t sum_ = 0;
  alignas(64) std::byte stage_[kStripeBytes];
};

}  // namespace

Checksum gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
                std::byte* payload, Isa isa) {
  const SegmentPlan plan = make_plan(from, order, 0);
  GatherPass pass(stripe_ops(isa), seed, payload);
  for_each_run(plan, from.base, from.blocks, [&](const Run& run) { pass.add(run); });
  return {checksum_start(seed, plan.bytes()) + pass.finish()};
}

}  // namespace baton
