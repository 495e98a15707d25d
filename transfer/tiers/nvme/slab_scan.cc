#include "transfer/tiers/nvme/slab_scan.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "transfer/base/text.h"
#include "transfer/tiers/nvme/block_buffer.h"
#include "transfer/tiers/nvme/io_queue.h"

namespace baton::nvme {
namespace {

constexpr uint32_t kHeadersInARead = 256;  // 1 MiB

}  // namespace

Status scan_headers(boost::asio::io_context& io, Disk& disk, const Superblock& superblock,
                    const std::function<void(uint32_t slab, const SlabHeader& header)>& found) {
  const SlabLayout& layout = superblock.layout;
  IoQueue queue(disk);
  BufferPool buffers(kHeadersInARead * kBlockBytes, disk.depth());
  Status status;
  uint32_t outstanding = 0;
  uint32_t next = 0;
  while (outstanding > 0 || (next < layout.slabs && status.ok())) {
    // No more than the disk takes, so that what waits has no memory either.
    while (outstanding < disk.depth() && next < layout.slabs && status.ok()) {
      const uint32_t first = next;
      const uint32_t count = std::min(kHeadersInARead, layout.slabs - first);
      next += count;
      ++outstanding;
      BlockBuffer buffer = buffers.take(count * kBlockBytes);
      std::byte* const data = buffer.data();
      const Disk::Io read{Disk::Kind::kRead, layout.header_offset(first), data,
                          static_cast<uint32_t>(count * kBlockBytes)};
      auto kept = std::make_shared<BlockBuffer>(std::move(buffer));
      queue.push(Lane::kRead,
                 {.begin = [read] { return read; },
                  .end =
                      [&, kept, first, count](int error) {
                        --outstanding;
                        if (error != 0) {
                          status = Status::from_errno(
                              "read headers at " + number(layout.header_offset(first)), error);
                          return;
                        }
                        for (uint32_t i = 0; i < count; ++i) {
                          const std::span<const std::byte, kBlockBytes> block(
                              kept->data() + i * kBlockBytes, kBlockBytes);
                          found(first + i, decode_header(block, superblock.uuid, first + i,
                                                         layout.slab_bytes));
                        }
                        buffers.give_back(std::move(*kept));
                      }});
    }
    io.restart();
    io.run_one();
  }
  return status;
}

}  // namespace baton::nvme
