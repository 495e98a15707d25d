// The checksum of a payload that lies in pieces, taken piece by piece as they become ready: just
// before a socket reads them, or just after it wrote them, while they are in the cache.
//
// Externally synchronised.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/checksum.h"
#include "kernels/isa.h"

namespace baton {

struct StripeOps;

class ChecksumPass {
 public:
  // Of a payload of that many bytes.
  ChecksumPass(const ChecksumSeed& seed, uint64_t bytes, Isa isa = best_isa());

  // The payload's next bytes. Whole stripes are read where they lie, each byte once. `next` is what
  // will be added after them, to be prefetched meanwhile, or null.
  void add(const std::byte* piece, size_t bytes, const std::byte* next = nullptr);
  uint64_t added() const { return position_ * kStripeBytes + filled_; }

  // When all bytes have been added (CHECK).
  Checksum finish();

 private:
  ChecksumSeed seed_;
  const StripeOps* ops_;
  uint64_t bytes_;
  uint64_t position_ = 0;  // of the first stripe that is not whole
  size_t filled_ = 0;      // bytes of it, in stage_
  uint64_t sum_ = 0;
  // Of no special alignment: this is allocated and freed all the time, and glibc before 2.38 does
  // not use again what it gave out aligned.
  std::array<std::byte, kStripeBytes> stage_;
};

}  // namespace baton
