// What a plain socket does between the same two processes: one contiguous stream written and read
// 4 MiB at a time, and a round trip of 64 bytes. The floor of a handoff over tcp and of a small
// handoff's latency.
//
// Blocking; externally synchronised.
#pragma once

#include <cstddef>
#include <span>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"

namespace baton::bench {

inline constexpr size_t kStreamPiece = 4u << 20;
inline constexpr size_t kPingBytes = 64;

// Both ends: the congestion control that halves loopback (bbr) is left for cubic where it may be.
void tune_stream(int fd);

Status stream_out(int fd, std::span<const std::byte> bytes);
Status stream_in(int fd, std::span<std::byte> bytes);
// Round trips, one after the other; the other side answers with pong.
Status ping(int fd, uint32_t times);
Status pong(int fd, uint32_t times);

}  // namespace baton::bench
