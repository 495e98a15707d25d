#include "kernels/gather.h"

#include <algorithm>
#include <cstring>

#include "kernels/segment_plan.h"
#include "kernels/stripes.h"

namespace baton {
namespace {

// Puts the payload together run by run. Stripes that lie within one run are copied and checked at
// once; one that is put together from several runs is checked when it is whole, while it is still
// in the first cache. The payload is the caller's alone until gather returns.
class GatherPass {
 public:
  GatherPass(const StripeOps& ops, const ChecksumSeed& seed, std::byte* payload)
      : ops_(ops), seed_(seed), payload_(payload) {}

  void add(Run run) {
    while (run.bytes > 0) {
      size_t done;
      if (filled_ == 0 && run.bytes >= kStripeBytes && run.at != nullptr) {
        const size_t stripes = run.bytes / kStripeBytes;
        done = stripes * kStripeBytes;
        sum_ += ops_.copy(seed_, {run.at, payload_, stripes, position_, run.next});
        position_ += stripes;
        payload_ += done;
      } else {
        done = std::min<uint64_t>(run.bytes, kStripeBytes - filled_);
        fill(run, done);
      }
      if (run.at != nullptr) run.at += done;
      if (run.next != nullptr) run.next += done;
      run.bytes -= done;
    }
  }

  uint64_t finish() {
    if (filled_ > 0) {
      alignas(64) std::byte tail[kStripeBytes];
      std::memcpy(tail, payload_, filled_);
      sum_ += tail_value(seed_, tail, filled_, position_);
    }
    return sum_;
  }

 private:
  void fill(const Run& run, size_t bytes) {
    if (run.at != nullptr) {
      std::memcpy(payload_ + filled_, run.at, bytes);
    } else {
      std::memset(payload_ + filled_, 0, bytes);
    }
    if (run.next != nullptr) {
      // Into the second cache: short runs at a wide stride would push each other out of the first.
      for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(run.next + line, 0, 2);
    }
    filled_ += bytes;
    if (filled_ == kStripeBytes) {
      sum_ += ops_.sum(seed_, {payload_, nullptr, 1, position_, nullptr});
      ++position_;
      payload_ += kStripeBytes;
      filled_ = 0;
    }
  }

  const StripeOps& ops_;
  const ChecksumSeed seed_;
  std::byte* payload_;     // of the stripe at position_
  uint64_t position_ = 0;  // of the first stripe that is not whole
  size_t filled_ = 0;      // bytes of it
  uint64_t sum_ = 0;
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
