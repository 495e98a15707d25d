// The NVMe tier: chunks on one or several files or block devices of this machine, found again after
// a restart or a kill. README.md says how, and which guarantees hold.
//
// Thread safety: opened anywhere; then confined to the node's progress thread, as every tier.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <vector>

#include "transfer/base/metrics.h"
#include "transfer/slot_pool.h"
#include "transfer/tiers/nvme/nvme_config.h"
#include "transfer/tiers/tier.h"

namespace baton {

namespace nvme {
struct Seams;
}

class NvmeTier {
 public:
  // Opens all devices and reads what lies there: blocks, until the node's start can go on. Chunks
  // in slots of `memory` (its arena is registered with the system; it may be null) are written and
  // read without a copy. Errors: kInvalidArgument naming the option or path; kUnavailable where
  // another process has a device, or the system does not permit io_uring; kRefused naming both
  // values where a device holds something else; kResourceExhausted where there is no room for a
  // file; kInternal where a device does not read. `io` and `metrics` outlive the tier, which is
  // destroyed when close() says so, and not before.
  static Result<std::unique_ptr<Tier>> open(boost::asio::io_context& io, NvmeConfig config,
                                            std::shared_ptr<SlotPool> memory, Metrics& metrics);
  // With what tests put around its disks.
  static Result<std::unique_ptr<Tier>> open(boost::asio::io_context& io, NvmeConfig config,
                                            std::shared_ptr<SlotPool> memory, Metrics& metrics,
                                            const nvme::Seams& seams);
};

}  // namespace baton
