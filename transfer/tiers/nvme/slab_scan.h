// What lies on a device at start: all headers, read with large reads, several at a time.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>

#include "transfer/base/status.h"
#include "transfer/tiers/nvme/disk.h"
#include "transfer/tiers/nvme/slab_format.h"

namespace baton::nvme {

// Runs `io`, on which the disk completes, until each slab has been told of once, in any order.
// kInternal naming the offset where the device does not read. Externally synchronised.
Status scan_headers(boost::asio::io_context& io, Disk& disk, const Superblock& superblock,
                    const std::function<void(uint32_t slab, const SlabHeader& header)>& found);

}  // namespace baton::nvme
