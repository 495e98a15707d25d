// A segment's payload as pieces of memory in payload order, and a position in it that moves on.
//
// Owns none of the memory. Externally synchronised.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/checksum_pass.h"
#include "transfer/channel.h"

namespace baton::tcp {

class Runs {
 public:
  Runs() = default;
  explicit Runs(std::span<std::byte> bytes);
  // Every byte must have a place there (in_long_runs(), CHECK).
  explicit Runs(const SegmentPlace& place);

  uint64_t bytes() const { return bytes_; }
  std::span<const iovec> pieces() const { return pieces_; }

 private:
  std::vector<iovec> pieces_;
  uint64_t bytes_ = 0;
};

// Two of these walk over the same runs: one for the system call, one for the checksum.
class RunCursor {
 public:
  uint64_t position() const { return position_; }
  // At most `bytes` bytes from here on, as at most `room` entries appended to `out`; returns how
  // many bytes they are.
  uint64_t list(const Runs& runs, uint64_t bytes, size_t room, std::vector<iovec>& out) const;
  void advance(const Runs& runs, uint64_t bytes);
  // Adds the next bytes, up to payload position `end`, to the checksum, and moves there.
  void sum(const Runs& runs, uint64_t end, ChecksumPass& pass);

 private:
  size_t piece_ = 0;
  size_t offset_ = 0;  // within it
  uint64_t position_ = 0;
};

}  // namespace baton::tcp
