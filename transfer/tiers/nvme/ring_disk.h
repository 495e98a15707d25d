// A file or block device through an io_uring of its own, awaited on an io_context: completions are
// handed over one a turn, so that nothing else on the loop waits for more than one segment's check.
//
// Thread safety: created anywhere; then confined to the io_context's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"
#include "transfer/tiers/nvme/disk.h"

namespace baton::nvme {

struct RingConfig {
  uint32_t depth = 32;
  size_t memory_alignment = 4096;
  // Memory that the system is told of once instead of at each read and write, where it lets us.
  // `unit` divides it: no read or write goes beyond one unit.
  std::span<std::byte> memory;
  size_t unit = 0;
};

class RingDisk {
 public:
  // `fd` is borrowed and outlives the disk. Errors: kUnavailable where the system does not permit
  // io_uring, with what to do.
  static Result<std::unique_ptr<Disk>> create(boost::asio::io_context& io, int fd,
                                              const RingConfig& config);
};

}  // namespace baton::nvme
