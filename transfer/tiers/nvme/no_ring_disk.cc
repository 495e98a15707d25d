// In the place of ring_disk.cc where the build found no liburing.
#include "transfer/tiers/nvme/ring_disk.h"

namespace baton::nvme {

Result<std::unique_ptr<Disk>> RingDisk::create(boost::asio::io_context&, int, const RingConfig&) {
  return Status(Code::kUnavailable,
                "this build has no NVMe tier: install liburing-dev and build again");
}

}  // namespace baton::nvme
