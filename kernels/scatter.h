// Scatter: a contiguous payload into an engine's blocks, verified in the same pass.
#pragma once

#include "kernels/checksum.h"
#include "kernels/isa.h"
#include "kernels/kv_layout.h"

namespace baton {

// Copies tokens [first_token, to.tokens) of payload[segment_bytes(to.layout, to.tokens)], which
// lies in `order`, into their blocks, and returns the checksum of all of the payload. Compare it
// with the sender's before anybody may read the blocks.
//
// The payload may be memory that another process changes meanwhile: each byte is loaded once, and
// the checksum is that of the bytes as copied. Bytes of blocks beyond the tokens are not written,
// except by opaque layouts that cannot tell their tokens: there blocks are written whole, and
// first_token must be a multiple of block_tokens, or to.tokens (CHECK). `order` is the payload's,
// kOpaque for opaque layouts and only for them (CHECK). The layout must be valid (validate()).
// When it returns, its stores are ordered before any later store of this thread. Thread-safe.
Checksum scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
                 const std::byte* payload, uint32_t first_token = 0, Isa isa = best_isa());

}  // namespace baton
