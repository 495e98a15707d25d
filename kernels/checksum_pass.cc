#include "kernels/checksum_pass.h"

#include <algorithm>
#include <cstring>

#include "kernels/checksum_device.h"
#include "kernels/stripes.h"
#include "transfer/base/check.h"

namespace baton {

ChecksumPass::ChecksumPass(const ChecksumSeed& seed, uint64_t bytes, Isa isa)
    : seed_(seed), ops_(&stripe_ops(isa)), bytes_(bytes), sum_(checksum_start(seed, bytes)) {}

void ChecksumPass::add(const std::byte* piece, size_t bytes, const std::byte* next) {
  while (bytes > 0) {
    size_t done;
    if (filled_ == 0 && bytes >= kStripeBytes) {
      const size_t stripes = bytes / kStripeBytes;
      done = stripes * kStripeBytes;
      sum_ += ops_->sum(seed_, {piece, nullptr, stripes, position_, next});
      position_ += stripes;
    } else {
      done = std::min(bytes, kStripeBytes - filled_);
      std::memcpy(stage_.data() + filled_, piece, done);
      filled_ += done;
      if (filled_ == kStripeBytes) {
        sum_ += ops_->sum(seed_, {stage_.data(), nullptr, 1, position_, nullptr});
        ++position_;
        filled_ = 0;
      }
    }
    piece += done;
    if (next != nullptr) next += done;
    bytes -= done;
  }
}

Checksum ChecksumPass::finish() {
  BATON_CHECK(added() == bytes_, "all of the payload was added");
  if (filled_ > 0) sum_ += tail_value(seed_, stage_.data(), filled_, position_);
  filled_ = 0;
  position_ = bytes_ / kStripeBytes;
  return {sum_};
}

}  // namespace baton
