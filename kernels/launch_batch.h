// From segments to what kernels take: the host's half of a launch, also without a GPU.
#pragma once

#include <span>

#include "kernels/segment_device.h"

namespace baton {

// One segment of a launch. Owns nothing: base, blocks and payload must be readable and writable by
// the device (device, managed or mapped pinned memory) and live until the launch has completed.
struct LaunchSegment {
  KvSegment segment;
  PayloadOrder order = PayloadOrder::kTokenHead;
  ChecksumSeed seed;
  std::byte* payload = nullptr;  // [segment_bytes(segment.layout, segment.tokens)]
  uint32_t first_token = 0;      // scatter: tokens before it are verified but not written
};

// kInvalidArgument, naming the values, for an invalid layout, an order that does not fit it, more
// than kBatchSegments segments, a first token out of range, or 2 GiB of payload or more.
Result<DeviceBatch> make_batch(std::span<const LaunchSegment> segments);

}  // namespace baton
