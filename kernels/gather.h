// Gather: an engine's blocks into one contiguous payload, checksummed in the same pass.
#pragma once

#include "kernels/checksum.h"
#include "kernels/isa.h"
#include "kernels/kv_layout.h"

namespace baton {

// Copies all tokens of `from` into payload[segment_bytes(from.layout, from.tokens)] in `order`
// (kOpaque for opaque layouts and only for them, CHECK) and returns the checksum of the payload.
// Each byte of the blocks is loaded once: the checksum is that of the bytes as copied, whatever
// the engine does meanwhile. The payload is written with ordinary stores, may be read back from the
// cache, must not overlap the blocks, and nobody else may write it meanwhile. The layout must be
// valid (validate()). Thread-safe.
Checksum gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
                std::byte* payload, Isa isa = best_isa());

}  // namespace baton
