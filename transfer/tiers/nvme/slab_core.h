// What the parts of one device share: its queue, its index, and whether it is being tried.
//
// Thread safety: confined to the progress thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/breaker.h"
#include "transfer/tiers/nvme/block_buffer.h"
#include "transfer/tiers/nvme/disk.h"
#include "transfer/tiers/nvme/io_queue.h"
#include "transfer/tiers/nvme/nvme_config.h"
#include "transfer/tiers/nvme/nvme_metrics.h"
#include "transfer/tiers/nvme/slab_format.h"
#include "transfer/tiers/nvme/slab_index.h"

namespace baton::nvme {

class SlabCore {
 public:
  SlabCore(boost::asio::io_context& io, const NvmeConfig& config, NvmeMetrics& metrics,
           std::string path, const Superblock& superblock, std::unique_ptr<Disk> disk);

  // Which of the two breakers.
  enum class Use : uint8_t { kStore, kRead };
  // Whether to try now; where the breaker is open and its pause over, this is the trial.
  bool allows(Use use);
  // Without being the trial.
  scheduler::Breaker::State state(Use use) const;
  void succeeded(Use use);
  // `error`: errno; ETIMEDOUT for what the device has not answered in time. Counts, logs the first
  // since it worked, and tells the breaker.
  void failed(Use use, int error);
  Status io_status(int error) const;  // kInternal with the path and errno
  const std::string& trouble() const { return trouble_; }

  uint64_t next_generation() { return generation_++; }
  void seen_generation(uint64_t generation) { generation_ = std::max(generation_, generation + 1); }

  // Writes a slab's header; `end` has errno or 0.
  void write_header(const void* owner, uint32_t slab, const SlabHeader& header,
                    std::function<void(int error)> end);
  // Makes the headers of taken slabs tombstones, then gives the slabs back; `slabs` ascend. kYes:
  // before that, so that even a loss of power brings none of them back. `done` has the first errno,
  // or 0; the slabs are given back all the same, and stay stale where it is that.
  enum class Durable : bool { kNo, kYes };
  void bury(std::vector<uint32_t> slabs, Durable durable, std::function<void(int error)> done);
  // What lies there is wrong: from now on nobody finds it. Nothing where something else lies there.
  void drop(uint32_t slab, uint64_t generation);
  // Sees to it that this stale slab, which nobody finds, is buried: by whoever has it, or by us.
  void lay(uint32_t slab, std::function<void(int error)> done);
  // What bury() and lay() have waiting is given up: their `done` has ECANCELED once nothing of it
  // is under way.
  void abandon_burials();
  // index.set_clean(), release() and unpin(), and whoever waits for that goes on.
  void cleaned(uint32_t slab);
  void release(uint32_t slab);
  void unpin(uint32_t slab);
  // Whether nothing is under way, waiting or about to be.
  bool idle() const { return burials_.empty() && queue.waiting() == 0 && queue.under_way() == 0; }
  // Whether segments of this size go between the device and this memory without a copy.
  bool aligned(const std::byte* data, uint64_t segment_bytes) const;

  // Constant after construction.
  boost::asio::io_context& io;
  const NvmeConfig& config;
  NvmeMetrics& metrics;
  const std::string path;
  const SlabLayout layout;
  const Uuid uuid;
  const std::unique_ptr<Disk> disk;

  BufferPool blocks;   // one block each
  BufferPool bounces;  // for what is not aligned
  IoQueue queue;
  SlabIndex index;
  // Something ended: idle(), or what is held, may be another. Set once.
  std::function<void()> changed = [] {};

 private:
  struct Burial;
  scheduler::Breaker& breaker(Use use) { return use == Use::kStore ? stores_ : reads_; }
  void bury_run(const std::shared_ptr<Burial>& burial, size_t first, size_t count);
  void end_burial(const std::shared_ptr<Burial>& burial);
  void go_on(uint32_t slab);

  scheduler::Breaker stores_;
  scheduler::Breaker reads_;
  std::string trouble_;
  uint64_t generation_ = 1;
  std::vector<std::shared_ptr<Burial>> burials_;
  struct Waiting {
    uint32_t slab;
    uint64_t generation;
    std::function<void(int error)> done;
  };
  std::vector<Waiting> waiting_;  // in lay()
  bool abandoned_ = false;
};

}  // namespace baton::nvme
