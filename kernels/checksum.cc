#include "kernels/checksum.h"

#include <cstring>

#include "kernels/stripes.h"

namespace baton {

ChecksumSeed make_seed(const SegmentIdentity& identity) {
  uint64_t words[7];
  std::memcpy(words, identity.key.data(), identity.key.size());
  words[4] = uint64_t{identity.layer} << 32 | identity.kv_group;
  words[5] = identity.head_group;
  words[6] = identity.bytes;
  // Two chains that differ in where they start and in how a word enters.
  ChecksumSeed seed{kGolden, ~kGolden};
  for (const uint64_t word : words) {
    seed.a = mix(seed.a ^ word) + kGolden;
    seed.b = mix(seed.b + word) ^ kGolden;
  }
  return seed;
}

Checksum checksum(const ChecksumSeed& seed, const std::byte* payload, size_t bytes) {
  const size_t stripes = bytes / kStripeBytes;
  uint64_t sum = checksum_start(seed, bytes);
  sum += stripe_ops(best_isa()).sum(seed, {payload, nullptr, stripes, 0, nullptr});
  if (const size_t rest = bytes % kStripeBytes; rest != 0) {
    alignas(64) std::byte stage[kStripeBytes];
    std::memcpy(stage, payload + stripes * kStripeBytes, rest);
    sum += tail_value(seed, stage, rest, stripes);
  }
  return {sum};
}

}  // namespace baton
