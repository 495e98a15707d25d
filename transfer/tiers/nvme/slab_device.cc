#include "transfer/tiers/nvme/slab_device.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

#include "transfer/base/check.h"
#include "transfer/base/log.h"
#include "transfer/base/text.h"
#include "transfer/tiers/nvme/ring_disk.h"
#include "transfer/tiers/nvme/slab_scan.h"

namespace baton::nvme {
namespace {

constexpr uint32_t kSlabsInATurn = 4096;

bool fits(const ChunkFilter& filter, const ChunkOrigin& origin) {
  return (!filter.fingerprint || *filter.fingerprint == origin.fingerprint) &&
         (!filter.tenant || *filter.tenant == origin.tenant);
}

// Ends once, when all that was begun has: with the first error.
struct Join {
  explicit Join(std::function<void(int)> when_done) : done(std::move(when_done)) {}
  ~Join() { done(error); }
  std::function<void(int)> done;
  int error = 0;
};
std::function<void(int)> part_of(const std::shared_ptr<Join>& join) {
  return [join](int error) {
    if (join->error == 0) join->error = error;
  };
}

RingConfig ring_config(const NvmeConfig& config, const SlabFile& file, const SlotPool* memory) {
  RingConfig ring{.depth = config.depth, .memory_alignment = file.memory_alignment()};
  if (memory != nullptr) {
    ring.memory = {memory->arena().data(), memory->arena().bytes()};
    ring.unit = memory->slot_bytes();
  }
  return ring;
}

Result<std::unique_ptr<Disk>> make_disk(boost::asio::io_context& io, const SlabFile& file,
                                        const RingConfig& config, const Seams& seams) {
  BATON_ASSIGN_OR_RETURN(std::unique_ptr<Disk> disk, RingDisk::create(io, file.fd(), config));
  if (seams.disk) disk = seams.disk(io, file.path(), std::move(disk));
  return disk;
}

}  // namespace

struct SlabDevice::Clear {
  ChunkFilter filter;
  bool dry_run = false;
  OnCleared done;
  uint64_t before = 0;  // generations from this on were begun later
  uint32_t next = 0;    // slabs below have been looked at
  ChunkCount count;
  int error = 0;

  bool covers(const SlabIndex::Entry& entry) const {
    return entry.generation() < before && fits(filter, entry.origin());
  }
};

Result<std::unique_ptr<SlabDevice>> SlabDevice::open(boost::asio::io_context& io,
                                                     const NvmeConfig& config,
                                                     const NvmeDevice& device,
                                                     const SlotPool* memory, NvmeMetrics& metrics,
                                                     const Seams& seams) {
  BATON_ASSIGN_OR_RETURN(auto file, SlabFile::open({.path = device.path,
                                                    .bytes = device.bytes,
                                                    .slab_bytes = config.slab_bytes,
                                                    .lock_patience = config.lock_patience}));
  BATON_ASSIGN_OR_RETURN(auto disk,
                         make_disk(io, *file, ring_config(config, *file, memory), seams));
  std::unique_ptr<SlabDevice> opened(
      new SlabDevice(io, config, metrics, std::move(file), std::move(disk)));
  BATON_RETURN_IF_ERROR(opened->restore(seams));
  return opened;
}

SlabDevice::SlabDevice(boost::asio::io_context& io, const NvmeConfig& config, NvmeMetrics& metrics,
                       std::unique_ptr<SlabFile> file, std::unique_ptr<Disk> disk)
    : file_(std::move(file)),
      core_(io, config, metrics, file_->path(), file_->superblock(), std::move(disk)) {}

Status SlabDevice::restore(const Seams& seams) {
  const TimePoint begin = now();
  std::vector<std::pair<HeldChunk, uint32_t>> found;
  const auto take = [&](uint32_t slab, const SlabHeader& header) {
    if (const auto* const chunk = std::get_if<ChunkHeader>(&header)) {
      core_.seen_generation(chunk->generation);
      found.emplace_back(HeldChunk::of(*chunk), slab);
      return;
    }
    if (const auto* const tombstone = std::get_if<Tombstone>(&header))
      core_.seen_generation(tombstone->generation);
    core_.index.release(slab);
  };
  {
    // On a loop of its own: the node's does not run yet.
    boost::asio::io_context io;
    BATON_ASSIGN_OR_RETURN(
        auto disk, make_disk(io, *file_, ring_config(core_.config, *file_, nullptr), seams));
    const Status scanned = scan_headers(io, *disk, file_->superblock(), take);
    if (!scanned.ok()) return Status(scanned.code(), core_.path + ": " + scanned.message());
  }
  // Oldest first: that is the order in which they leave. Of two of one id the later counts.
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first.generation < b.first.generation; });
  for (const auto& [chunk, slab] : found) {
    if (const auto older = core_.index.find(chunk.id)) {
      core_.index.unlist(*older);
      // At once: else the next restart would find it where the later one has left by then.
      if (file_->bury(*older, core_.next_generation()).ok()) core_.index.set_clean(*older);
      core_.index.release(*older);
    }
    core_.index.expect(slab, chunk);
    core_.index.publish(slab);
  }
  log::info("nvme: ready path={} slabs={} slab_bytes={} chunks={} ms={:.1f}", core_.path,
            core_.layout.slabs, core_.layout.slab_bytes, core_.index.held().chunks,
            to_ms(now() - begin));
  return ok_status();
}

std::optional<uint32_t> SlabDevice::find(const ChunkId& id) const {
  const std::optional<uint32_t> slab = core_.index.find(id);
  if (!slab) return std::nullopt;
  const SlabIndex::Entry& entry = core_.index.at(*slab);
  const bool cleared = std::any_of(clears_.begin(), clears_.end(), [&](const auto& clear) {
    return !clear->dry_run && clear->covers(entry);
  });
  return cleared ? std::nullopt : slab;
}

bool SlabDevice::storing(const ChunkId& id) const {
  return std::any_of(stores_.begin(), stores_.end(),
                     [&](const auto& store) { return store->wanted() && store->id() == id; });
}

void SlabDevice::touch(const ChunkId& id) {
  if (const auto slab = core_.index.find(id)) core_.index.touch(*slab);
}

Status SlabDevice::room_for(size_t slot_bytes) const {
  const NvmeConfig& config = core_.config;
  if (stores_.size() >= config.max_stores) {
    return Status(Code::kResourceExhausted, core_.path + ": " + number(stores_.size()) +
                                                " chunks are being stored, the bound");
  }
  if (!stores_.empty() && store_bytes_ + slot_bytes > config.max_store_bytes) {
    return Status(Code::kResourceExhausted, core_.path + ": " + number(store_bytes_) + " of " +
                                                number(config.max_store_bytes) +
                                                " bytes are being stored");
  }
  if (core_.index.free() == 0 && core_.index.evictable() == 0) {
    return Status(Code::kResourceExhausted, core_.path + ": all of " + number(core_.layout.slabs) +
                                                " slabs are being written or read");
  }
  return ok_status();
}

uint32_t SlabDevice::take_slab() {
  if (const auto slab = core_.index.take_free()) return *slab;
  const auto oldest = core_.index.take_oldest();
  BATON_CHECK(oldest, "a store without room for it");
  core_.metrics.evicted();
  return *oldest;
}

void SlabDevice::store(Chunk chunk, TimePoint deadline, Tier::OnDone done) {
  // Hidden from look-ups, and not buried yet.
  if (const auto hidden = core_.index.find(chunk.id))
    core_.drop(*hidden, core_.index.at(*hidden).generation());
  const size_t slot_bytes = chunk.slot.bytes().size();
  store_bytes_ += slot_bytes;
  const auto place = stores_.emplace(stores_.end());
  *place = std::make_shared<SlabStore>(core_, std::move(chunk), take_slab(), std::move(done),
                                       [this, place, slot_bytes] {
                                         store_bytes_ -= slot_bytes;
                                         stores_.erase(place);
                                         core_.changed();
                                       });
  (*place)->start(deadline);
}

std::shared_ptr<SlabRead> SlabDevice::read(uint32_t slab, TierReadRequest request,
                                           Tier::OnLayer on_layer, Tier::OnRead done) {
  const auto place = reads_.emplace(reads_.end());
  *place = std::make_shared<SlabRead>(core_, slab, std::move(request), std::move(on_layer),
                                      std::move(done), [this, place] {
                                        reads_.erase(place);
                                        core_.changed();
                                      });
  (*place)->start();
  return *place;
}

void SlabDevice::erase(const std::vector<ChunkId>& ids, std::function<void(int error)> done) {
  const auto join = std::make_shared<Join>(std::move(done));
  std::vector<uint32_t> slabs;
  for (const ChunkId& id : ids) {
    for (const auto& store : stores_) {
      if (store->id() == id) store->forget();
    }
    for (const uint32_t slab : core_.index.ghosts(id)) core_.lay(slab, part_of(join));
    if (const auto slab = core_.index.find(id)) {
      core_.index.unlist(*slab);
      slabs.push_back(*slab);
    }
  }
  std::sort(slabs.begin(), slabs.end());
  // Also where there is none: the last of another one may not be durable yet.
  core_.bury(std::move(slabs), SlabCore::Durable::kYes, part_of(join));
}

void SlabDevice::clear(const ChunkFilter& filter, bool dry_run, OnCleared done) {
  const auto clear = std::make_shared<Clear>();
  clear->filter = filter;
  clear->dry_run = dry_run;
  clear->done = std::move(done);
  clear->before = core_.next_generation();
  clears_.push_back(clear);
  if (!dry_run) {
    for (const auto& store : stores_) {
      if (fits(filter, store->origin())) store->forget();
    }
  }
  boost::asio::post(core_.io, [this, clear] { clear_some(clear); });
}

void SlabDevice::clear_some(const std::shared_ptr<Clear>& clear) {
  const auto join = std::make_shared<Join>([this, clear](int error) {
    if (clear->error == 0) clear->error = error;
    // Not inside this turn.
    boost::asio::post(core_.io, [this, clear] {
      clear->next < core_.layout.slabs ? clear_some(clear) : cleared(clear);
    });
  });
  std::vector<uint32_t> slabs;
  const uint32_t end = std::min(core_.layout.slabs - clear->next, kSlabsInATurn) + clear->next;
  for (; clear->next < end; ++clear->next) {
    const SlabIndex::Entry& entry = core_.index.at(clear->next);
    if (!entry.stale() || !clear->covers(entry)) continue;
    const bool held = entry.state() == SlabIndex::State::kHeld;
    if (held) {
      ++clear->count.chunks;
      clear->count.bytes += entry.payload_bytes();
    }
    if (clear->dry_run) continue;
    if (!held) {
      core_.lay(clear->next, part_of(join));
      continue;
    }
    core_.index.unlist(clear->next);
    slabs.push_back(clear->next);
  }
  if (!slabs.empty()) core_.bury(std::move(slabs), SlabCore::Durable::kYes, part_of(join));
}

void SlabDevice::cleared(const std::shared_ptr<Clear>& clear) {
  clears_.remove(clear);
  clear->done(clear->count, clear->error);
  core_.changed();
}

void SlabDevice::abandon(const Status& why) {
  const auto stores = stores_;
  for (const auto& store : stores) store->abandon(why);
  const auto reads = reads_;
  for (const auto& read : reads) read->abandon(why);
  for (const auto& clear : clears_) {
    clear->next = core_.layout.slabs;
    clear->error = ECANCELED;
  }
  core_.abandon_burials();
}

bool SlabDevice::idle() const {
  return stores_.empty() && reads_.empty() && clears_.empty() && core_.idle();
}

}  // namespace baton::nvme
