#include "transfer/tiers/nvme/slab_core.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

#include "transfer/base/log.h"

namespace baton::nvme {
namespace {

// Tombstones of neighbours are written together.
constexpr size_t kMaxTombstonesInAWrite = 64;

const char* use_name(SlabCore::Use use) { return use == SlabCore::Use::kStore ? "store" : "read"; }

const char* kind_of(int error) {
  if (error == ENOSPC || error == EDQUOT) return "no_space";
  return error == ETIMEDOUT ? "timeout" : "io";
}

}  // namespace

SlabCore::SlabCore(boost::asio::io_context& io_context, const NvmeConfig& node_config,
                   NvmeMetrics& node_metrics, std::string device, const Superblock& superblock,
                   std::unique_ptr<Disk> its_disk)
    : io(io_context),
      config(node_config),
      metrics(node_metrics),
      path(std::move(device)),
      layout(superblock.layout),
      uuid(superblock.uuid),
      disk(std::move(its_disk)),
      blocks(kBlockBytes, disk->depth()),
      bounces(config.io_bytes, disk->depth()),
      queue(*disk),
      index(layout.slabs),
      stores_(config.breaker),
      reads_(config.breaker) {
  for (const Use use : {Use::kStore, Use::kRead}) metrics.set_breaker(path, use_name(use), false);
}

bool SlabCore::allows(Use use) { return breaker(use).allows(now()); }

scheduler::Breaker::State SlabCore::state(Use use) const {
  return (use == Use::kStore ? stores_ : reads_).state(now());
}

void SlabCore::succeeded(Use use) {
  if (state(use) != scheduler::Breaker::State::kClosed) {
    log::info("nvme: works again path={} of={}", path, use_name(use));
    metrics.set_breaker(path, use_name(use), false);
  }
  breaker(use).succeeded();
  trouble_.clear();
}

void SlabCore::failed(Use use, int error) {
  metrics.device_error(kind_of(error));
  const bool first = trouble_.empty();
  trouble_ = io_status(error).message();
  if (first) log::warn("nvme: {} of={}", trouble_, use_name(use));
  const bool closed = state(use) == scheduler::Breaker::State::kClosed;
  breaker(use).failed(now());
  if (!closed || state(use) == scheduler::Breaker::State::kClosed) return;
  log::warn("nvme: keeps failing, left alone for a while path={} of={} why='{}'", path,
            use_name(use), trouble_);
  metrics.set_breaker(path, use_name(use), true);
}

Status SlabCore::io_status(int error) const { return Status::from_errno(path, error); }

bool SlabCore::aligned(const std::byte* data, uint64_t segment_bytes) const {
  return segment_bytes % kBlockBytes == 0 &&
         reinterpret_cast<uintptr_t>(data) % disk->memory_alignment() == 0;
}

void SlabCore::write_header(const void* owner, uint32_t slab, const SlabHeader& header,
                            std::function<void(int error)> end) {
  const auto block = std::make_shared<BlockBuffer>(blocks.take(kBlockBytes));
  if (const auto* const tombstone = std::get_if<Tombstone>(&header)) {
    encode(*tombstone, uuid, slab, block->block());
  } else {
    encode(std::get<ChunkHeader>(header), uuid, slab, block->block());
  }
  const Disk::Io write{Disk::Kind::kWrite, layout.header_offset(slab), block->data(), kBlockBytes};
  queue.push(Lane::kWrite, {.owner = owner,
                            .begin = [write] { return write; },
                            .end =
                                [this, block, end = std::move(end)](int error) {
                                  blocks.give_back(std::move(*block));
                                  end(error);
                                }});
}

struct SlabCore::Burial {
  std::vector<uint32_t> slabs;
  Durable durable;
  std::function<void(int error)> done;
  size_t outstanding = 0;
  int error = 0;
  bool flushed = false;
};

void SlabCore::bury(std::vector<uint32_t> slabs, Durable durable,
                    std::function<void(int error)> done) {
  const auto burial = std::make_shared<Burial>();
  burial->slabs = std::move(slabs);
  burial->durable = durable;
  burial->done = std::move(done);
  burial->outstanding = 1;  // until it is posted
  burials_.push_back(burial);
  const std::vector<uint32_t>& all = burial->slabs;
  for (size_t first = 0; first < all.size();) {
    size_t count = 1;
    while (count < kMaxTombstonesInAWrite && first + count < all.size() &&
           all[first + count] == all[first] + count) {
      ++count;
    }
    bury_run(burial, first, count);
    first += count;
  }
  // Later, where there was nothing to write either.
  boost::asio::post(io, [this, burial] { end_burial(burial); });
}

void SlabCore::bury_run(const std::shared_ptr<Burial>& burial, size_t first, size_t count) {
  ++burial->outstanding;
  const auto buffer = std::make_shared<BlockBuffer>();
  const uint32_t slab = burial->slabs[first];
  queue.push(Lane::kWrite,
             {.owner = burial.get(),
              .begin =
                  [this, buffer, slab, count] {
                    *buffer =
                        count == 1 ? blocks.take(kBlockBytes) : BlockBuffer(count * kBlockBytes);
                    for (size_t i = 0; i < count; ++i) {
                      encode(Tombstone{next_generation()}, uuid, static_cast<uint32_t>(slab + i),
                             buffer->block(i * kBlockBytes));
                    }
                    return Disk::Io{Disk::Kind::kWrite, layout.header_offset(slab), buffer->data(),
                                    static_cast<uint32_t>(count * kBlockBytes)};
                  },
              .end =
                  [this, burial, buffer, slab, count](int error) {
                    if (count == 1) blocks.give_back(std::move(*buffer));
                    if (error != 0) {
                      failed(Use::kStore, error);
                      if (burial->error == 0) burial->error = error;
                    } else {
                      for (size_t i = 0; i < count; ++i) cleaned(static_cast<uint32_t>(slab + i));
                    }
                    end_burial(burial);
                  }});
}

void SlabCore::end_burial(const std::shared_ptr<Burial>& burial) {
  if (--burial->outstanding > 0) return;
  if (burial->durable == Durable::kYes && !burial->flushed) {
    burial->flushed = true;
    burial->outstanding = 1;
    queue.push(Lane::kWrite, {.owner = burial.get(),
                              .begin = [] { return Disk::Io{Disk::Kind::kFlush}; },
                              .end =
                                  [this, burial](int error) {
                                    if (error != 0) failed(Use::kStore, error);
                                    if (burial->error == 0) burial->error = error;
                                    end_burial(burial);
                                  }});
    return;
  }
  std::erase(burials_, burial);
  for (const uint32_t slab : burial->slabs) release(slab);
  burial->done(burial->error);
  changed();
}

void SlabCore::lay(uint32_t slab, std::function<void(int error)> done) {
  if (index.at(slab).state() == SlabIndex::State::kFree) {
    index.take(slab);
    return bury({slab}, Durable::kYes, std::move(done));
  }
  waiting_.push_back({slab, index.at(slab).generation(), std::move(done)});
}

void SlabCore::go_on(uint32_t slab) {
  const SlabIndex::Entry& entry = index.at(slab);
  std::vector<Waiting> ready;
  for (size_t i = 0; i < waiting_.size();) {
    const bool there = entry.stale() && entry.generation() == waiting_[i].generation;
    if (waiting_[i].slab == slab && (!there || entry.state() == SlabIndex::State::kFree)) {
      ready.push_back(std::move(waiting_[i]));
      waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  for (Waiting& each : ready) {
    const bool there = entry.stale() && entry.generation() == each.generation;
    if (abandoned_) {
      each.done(there ? ECANCELED : 0);
    } else if (there) {
      lay(slab, std::move(each.done));  // the first takes it, the others wait for that
    } else {
      // It was written by somebody who did not ask for it to be durable.
      bury({}, Durable::kYes, std::move(each.done));
    }
  }
}

void SlabCore::cleaned(uint32_t slab) {
  index.set_clean(slab);
  go_on(slab);
}

void SlabCore::release(uint32_t slab) {
  index.release(slab);
  go_on(slab);
}

void SlabCore::unpin(uint32_t slab) {
  index.unpin(slab);
  go_on(slab);
}

void SlabCore::abandon_burials() {
  abandoned_ = true;
  const auto all = burials_;
  for (const auto& burial : all) {
    const size_t dropped = queue.drop(burial.get());
    if (dropped == 0) continue;
    burial->error = ECANCELED;
    burial->durable = Durable::kNo;
    burial->outstanding -= dropped - 1;
    end_burial(burial);
  }
}

void SlabCore::drop(uint32_t slab, uint64_t generation) {
  const SlabIndex::Entry& entry = index.at(slab);
  if (entry.state() != SlabIndex::State::kHeld || entry.generation() != generation) return;
  index.unlist(slab);
  bury({slab}, Durable::kNo, [](int) {});
}

}  // namespace baton::nvme
