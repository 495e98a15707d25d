// The inner loops of the host kernels: whole stripes copied, checked, or both in one pass, once for
// each instruction set. Every byte of the source is loaded exactly once, into registers, and what
// is stored and what is summed is that load: the source may be memory that another process changes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/checksum_device.h"
#include "kernels/isa.h"

namespace baton {

struct StripeRun {
  const std::byte* from;
  std::byte* to;  // not read by `sum`
  size_t stripes;
  uint64_t position;      // of the first stripe in its payload
  const std::byte* next;  // what will be read next, to be prefetched meanwhile; or null
};

struct StripeOps {
  // Each returns the sum of the stripes' values.
  uint64_t (*copy)(const ChecksumSeed&, const StripeRun&);
  // Non-temporal stores where `to` is a multiple of 64, else as copy. Call stream_fence() before
  // anybody else is told of the bytes.
  uint64_t (*stream)(const ChecksumSeed&, const StripeRun&);
  uint64_t (*sum)(const ChecksumSeed&, const StripeRun&);
};

const StripeOps& stripe_ops(Isa isa);

void stream_fence();

// Value of a payload's last, short stripe: `stage` holds `bytes` (less than kStripeBytes) of it,
// with room to pad up to kStripeBytes.
uint64_t tail_value(const ChecksumSeed& seed, std::byte* stage, size_t bytes, uint64_t position);

}  // namespace baton
