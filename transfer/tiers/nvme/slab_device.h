// One device of the tier: what is being stored on it, read from it and erased.
//
// Thread safety: opened anywhere; then confined to the progress thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transfer/slot_pool.h"
#include "transfer/tiers/nvme/slab_core.h"
#include "transfer/tiers/nvme/slab_file.h"
#include "transfer/tiers/nvme/slab_read.h"
#include "transfer/tiers/nvme/slab_store.h"
#include "transfer/tiers/tier.h"

namespace baton::nvme {

// For tests: what comes between the tier and its disks.
struct Seams {
  std::function<std::unique_ptr<Disk>(boost::asio::io_context& io, const std::string& path,
                                      std::unique_ptr<Disk> disk)>
      disk;
};

class SlabDevice {
 public:
  // Opens, formats or checks the file, and reads what lies there; blocks. `memory` may be null.
  // Errors as SlabFile::open and RingDisk::create have them, and kInternal where headers cannot be
  // read.
  static Result<std::unique_ptr<SlabDevice>> open(boost::asio::io_context& io,
                                                  const NvmeConfig& config,
                                                  const NvmeDevice& device, const SlotPool* memory,
                                                  NvmeMetrics& metrics, const Seams& seams);

  // Where a chunk lies that look-ups may find.
  std::optional<uint32_t> find(const ChunkId& id) const;
  bool storing(const ChunkId& id) const;
  void touch(const ChunkId& id);

  // Why it takes no chunk in a slot of so many bytes now; ok: it does, if allows() lets it.
  Status room_for(size_t slot_bytes) const;
  // There is room. `done` as Tier::store's.
  void store(Chunk chunk, TimePoint deadline, Tier::OnDone done);

  // `slab` from find(), of what the request asks for.
  std::shared_ptr<SlabRead> read(uint32_t slab, TierReadRequest request, Tier::OnLayer on_layer,
                                 Tier::OnRead done);

  // From now on nobody finds them. `done` has errno or 0, later, when that would survive a loss of
  // power.
  void erase(const std::vector<ChunkId>& ids, std::function<void(int error)> done);
  // The same for what fits and is stored or being stored now; a few thousand slabs a turn.
  using OnCleared = std::function<void(const ChunkCount& count, int error)>;
  void clear(const ChunkFilter& filter, bool dry_run, OnCleared done);

  // All calls end now with `why`, what only waits is given up.
  void abandon(const Status& why);
  // Whether nothing is under way: no slot is touched any more.
  bool idle() const;

  SlabCore& core() { return core_; }
  const SlabCore& core() const { return core_; }
  size_t stores() const { return stores_.size(); }
  size_t reads() const { return reads_.size(); }
  size_t store_bytes() const { return store_bytes_; }

 private:
  struct Clear;
  SlabDevice(boost::asio::io_context& io, const NvmeConfig& config, NvmeMetrics& metrics,
             std::unique_ptr<SlabFile> file, std::unique_ptr<Disk> disk);
  Status restore(const Seams& seams);
  uint32_t take_slab();
  void clear_some(const std::shared_ptr<Clear>& clear);
  void cleared(const std::shared_ptr<Clear>& clear);

  const std::unique_ptr<SlabFile> file_;  // outlives the disk
  SlabCore core_;
  std::list<std::shared_ptr<SlabStore>> stores_;
  std::list<std::shared_ptr<SlabRead>> reads_;
  std::list<std::shared_ptr<Clear>> clears_;
  size_t store_bytes_ = 0;  // of slots
};

}  // namespace baton::nvme
