#include "transfer/tiers/nvme/nvme_tier.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <string>
#include <utility>

#include "transfer/base/check.h"
#include "transfer/base/ids.h"
#include "transfer/base/text.h"
#include "transfer/tiers/nvme/nvme_metrics.h"
#include "transfer/tiers/nvme/slab_device.h"

namespace baton {
namespace {

using nvme::SlabCore;
using nvme::SlabDevice;
using nvme::SlabRead;
using scheduler::Breaker;

Status shutting_down() { return Status(Code::kUnavailable, "the NVMe tier is shutting down"); }

// An erase or clear over all devices: ends once, when all of them have ended or the time is over.
class NvmeCall : public std::enable_shared_from_this<NvmeCall> {
 public:
  NvmeCall(boost::asio::io_context& io, size_t parts, std::function<void(const Status&)> done)
      : timer_(io), parts_(parts), done_(std::move(done)) {}
  void start(Duration deadline) {
    timer_.expires_after(deadline);
    timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (error) return;
      self->end(
          Status(Code::kDeadlineExceeded,
                 "nobody finds the chunks any more, but not all of the devices have said that "
                 "they are erased"));
    });
  }
  void part_ended(const Status& status) {
    if (first_.ok()) first_ = status;
    if (--parts_ == 0) end(first_);
  }
  void end(const Status& status) {
    timer_.cancel();
    if (const auto done = std::exchange(done_, nullptr)) done(status);
  }
  bool over() const { return done_ == nullptr; }

  ChunkCount count;

 private:
  boost::asio::steady_timer timer_;
  size_t parts_;
  std::function<void(const Status&)> done_;
  Status first_;
};

// Of a chunk that is on its way.
class NvmeReadHandle : public Tier::Read {
 public:
  explicit NvmeReadHandle(std::shared_ptr<SlabRead> read) : read_(std::move(read)) {}
  ~NvmeReadHandle() override { read_->cancel(); }

 private:
  const std::shared_ptr<SlabRead> read_;
};

// Of one that was refused; told unless the handle is gone by then.
class RefusedHandle : public Tier::Read {
 public:
  RefusedHandle(boost::asio::io_context& io, Tier::OnRead done, Status why)
      : done_(std::make_shared<Tier::OnRead>(std::move(done))) {
    boost::asio::post(io, [done = std::weak_ptr(done_), why = std::move(why)] {
      if (const auto alive = done.lock()) (*alive)(why);
    });
  }

 private:
  const std::shared_ptr<Tier::OnRead> done_;
};

class Impl : public Tier {
 public:
  Impl(boost::asio::io_context& io, NvmeConfig config, std::shared_ptr<SlotPool> memory,
       Metrics& metrics)
      : io_(io),
        config_(std::move(config)),
        memory_(std::move(memory)),
        metrics_(metrics),
        close_timer_(io) {}
  ~Impl() override {
    BATON_CHECK(idle(), "the NVMe tier is destroyed while its devices may touch memory");
  }

  Status open(const nvme::Seams& seams) {
    for (const NvmeDevice& device : config_.devices) {
      BATON_ASSIGN_OR_RETURN(
          auto opened, SlabDevice::open(io_, config_, device, memory_.get(), metrics_, seams));
      opened->core().changed = [this] { changed(); };
      devices_.push_back(std::move(opened));
    }
    changed();
    return ok_status();
  }

  const char* name() const override { return "nvme"; }
  Presence presence(const ChunkId& id) const override {
    return place_of(id).device != nullptr ? Presence::kHeld : Presence::kAbsent;
  }
  void find(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline,
            OnPresent done) override;
  void store(Chunk chunk, TimePoint deadline, OnDone done) override;
  std::unique_ptr<Read> read(TierReadRequest request, OnLayer on_layer, OnRead done) override;
  void erase(ChunkOrigin origin, std::vector<ChunkId> ids, OnDone done) override;
  void clear(ChunkFilter filter, bool dry_run, OnCount done) override;
  TierReport report() const override;
  void close(TimePoint deadline, std::function<void()> closed) override;

 private:
  struct Place {
    SlabDevice* device = nullptr;
    uint32_t slab = 0;
    Status why_not;  // where there is none
  };
  // Where it can be read.
  Place place_of(const ChunkId& id) const;
  Status storable(const Chunk& chunk) const;
  // The device for a chunk in a slot of so many bytes.
  Result<SlabDevice*> device_for(size_t slot_bytes);
  std::shared_ptr<NvmeCall> begin_call(std::function<void(const Status&)> done);
  bool idle() const;
  void changed();

  boost::asio::io_context& io_;
  const NvmeConfig config_;
  const std::shared_ptr<SlotPool> memory_;  // registered: outlives the devices
  nvme::NvmeMetrics metrics_;
  std::vector<std::unique_ptr<SlabDevice>> devices_;
  std::vector<std::weak_ptr<NvmeCall>> calls_;
  bool closing_ = false;
  std::function<void()> closed_;
  boost::asio::steady_timer close_timer_;
};

void Impl::find(ChunkOrigin, std::vector<ChunkId> ids, TimePoint, OnPresent done) {
  std::vector<bool> present;
  for (const ChunkId& id : ids) {
    present.push_back(presence(id) == Presence::kHeld);
    metrics_.lookup(present.back());
  }
  boost::asio::post(io_, [present = std::move(present), done = std::move(done)]() mutable {
    done(std::move(present));
  });
}

Status Impl::storable(const Chunk& chunk) const {
  BATON_CHECK(static_cast<bool>(chunk.slot), "a chunk without a slot in the NVMe tier");
  const size_t layers = chunk.checksums.size();
  BATON_CHECK(layers > 0 && chunk.segment_bytes > 0 &&
                  chunk.segment_bytes <= chunk.slot.bytes().size() / layers,
              "a chunk that is larger than its slot");
  if (layers > nvme::kMaxLayers) {
    return Status(Code::kInvalidArgument,
                  differs("the most layers of a chunk", nvme::kMaxLayers, layers, "in this one"));
  }
  const uint64_t bytes = slab_bytes_for(static_cast<uint32_t>(layers), chunk.segment_bytes);
  if (bytes > config_.slab_bytes) {
    return Status(Code::kInvalidArgument, differs("the size of a slab", config_.slab_bytes, bytes,
                                                  "needed for this chunk"));
  }
  return ok_status();
}

Result<SlabDevice*> Impl::device_for(size_t slot_bytes) {
  SlabDevice* best = nullptr;
  Status why;
  for (const auto& device : devices_) {
    const auto state = device->core().state(SlabCore::Use::kStore);
    if (state == Breaker::State::kOpen) {
      if (why.ok()) why = Status(Code::kUnavailable, device->core().trouble());
      continue;
    }
    if (Status room = device->room_for(slot_bytes); !room.ok()) {
      why = std::move(room);
      continue;
    }
    // The one that is to be tried again, else the one with the least before it.
    if (state == Breaker::State::kHalfOpen) {
      best = device.get();
      break;
    }
    const auto load = [](const SlabDevice& each) {
      return std::pair(each.store_bytes(), UINT32_MAX - each.core().index.free());
    };
    if (best == nullptr || load(*device) < load(*best)) best = device.get();
  }
  if (best == nullptr) return why;
  best->core().allows(SlabCore::Use::kStore);  // takes the trial
  return best;
}

void Impl::store(Chunk chunk, TimePoint deadline, OnDone done) {
  const auto refuse = [&](Status why) {
    metrics_.store_ended(why.code());
    boost::asio::post(io_, [why = std::move(why), done = std::move(done)] { done(why); });
  };
  if (closing_) return refuse(shutting_down());
  if (const Status status = storable(chunk); !status.ok()) return refuse(status);
  for (const auto& device : devices_) {
    if (device->find(chunk.id)) {
      device->touch(chunk.id);
      return refuse(Status(Code::kExists, "chunk " + chunk.id.key.to_hex() + " is held already"));
    }
    if (device->storing(chunk.id)) {
      return refuse(
          Status(Code::kExists, "chunk " + chunk.id.key.to_hex() + " is being stored already"));
    }
  }
  const auto device = device_for(chunk.slot.bytes().size());
  if (!device.ok()) return refuse(device.status());
  (*device)->store(std::move(chunk), deadline, std::move(done));
}

Impl::Place Impl::place_of(const ChunkId& id) const {
  Place none;
  none.why_not = Status(Code::kNotFound, "no such chunk");
  for (const auto& device : devices_) {
    const auto slab = device->find(id);
    if (!slab) continue;
    if (device->core().state(SlabCore::Use::kRead) != Breaker::State::kOpen)
      return {device.get(), *slab, ok_status()};
    none.why_not = Status(Code::kUnavailable, device->core().trouble());
  }
  return none;
}

std::unique_ptr<Tier::Read> Impl::read(TierReadRequest request, OnLayer on_layer, OnRead done) {
  const auto refuse = [&](Status why) -> std::unique_ptr<Read> {
    metrics_.read_ended(why.code());
    return std::make_unique<RefusedHandle>(io_, std::move(done), std::move(why));
  };
  BATON_CHECK(static_cast<bool>(request.into), "a read without a slot");
  if (closing_) return refuse(shutting_down());
  const Place place = place_of(request.id);
  if (place.device == nullptr) {
    metrics_.lookup(false);
    return refuse(place.why_not);
  }
  SlabDevice& device = *place.device;
  const nvme::SlabIndex::Entry& entry = device.core().index.at(place.slab);
  const auto refused = [&](const std::string& why) {
    return refuse(Status(Code::kRefused, "chunk " + request.id.key.to_hex() + ": " + why));
  };
  if (entry.layers() != request.layers)
    return refused(differs("the number of layers", request.layers, entry.layers(), "in the tier"));
  if (entry.segment_bytes() != request.segment_bytes) {
    return refused(differs("the size of a segment", request.segment_bytes, entry.segment_bytes(),
                           "in the tier"));
  }
  if (entry.origin().fingerprint != request.origin.fingerprint) {
    const auto& here = request.origin.fingerprint;
    const auto& there = entry.origin().fingerprint;
    return refused("the fingerprint is " + to_hex(here.data(), here.size()) + " here and " +
                   to_hex(there.data(), there.size()) + " in the tier");
  }
  if (entry.payload_bytes() > request.into.bytes().size())
    return refused(differs("the size of the slot", request.into.bytes().size(),
                           entry.payload_bytes(), "needed"));
  if (device.reads() >= config_.max_reads) {
    return refuse(Status(
        Code::kResourceExhausted,
        device.core().path + ": " + number(device.reads()) + " chunks are being read, the bound"));
  }
  if (!device.core().allows(SlabCore::Use::kRead))
    return refuse(Status(Code::kUnavailable, device.core().trouble()));
  return std::make_unique<NvmeReadHandle>(
      device.read(place.slab, std::move(request), std::move(on_layer), std::move(done)));
}

std::shared_ptr<NvmeCall> Impl::begin_call(std::function<void(const Status&)> done) {
  auto call = std::make_shared<NvmeCall>(io_, devices_.size(), std::move(done));
  call->start(config_.erase_deadline);
  std::erase_if(calls_, [](const auto& each) { return each.expired(); });
  calls_.push_back(call);
  return call;
}

void Impl::erase(ChunkOrigin, std::vector<ChunkId> ids, OnDone done) {
  if (closing_) return boost::asio::post(io_, [done = std::move(done)] { done(shutting_down()); });
  const auto call = begin_call(std::move(done));
  for (const auto& device : devices_) {
    SlabCore& core = device->core();
    device->erase(ids, [call, &core](int error) {
      call->part_ended(error == 0 ? ok_status() : core.io_status(error));
    });
  }
  changed();
}

void Impl::clear(ChunkFilter filter, bool dry_run, OnCount done) {
  if (closing_) return boost::asio::post(io_, [done = std::move(done)] { done(shutting_down()); });
  const auto count = std::make_shared<ChunkCount>();
  const auto call = begin_call([count, done = std::move(done)](const Status& status) {
    status.ok() ? done(*count) : done(status);
  });
  for (const auto& device : devices_) {
    SlabCore& core = device->core();
    device->clear(filter, dry_run, [call, count, &core](const ChunkCount& cleared, int error) {
      count->chunks += cleared.chunks;
      count->bytes += cleared.bytes;
      call->part_ended(error == 0 ? ok_status() : core.io_status(error));
    });
  }
}

TierReport Impl::report() const {
  TierReport report;
  report.available = false;
  for (const auto& device : devices_) {
    const SlabCore& core = device->core();
    report.held.chunks += core.index.held().chunks;
    report.held.bytes += core.index.held().bytes;
    report.capacity_bytes += core.layout.slabs * core.layout.slab_bytes;
    report.stores += static_cast<uint32_t>(device->stores());
    report.reads += static_cast<uint32_t>(device->reads());
    report.available =
        report.available || (core.state(SlabCore::Use::kStore) != Breaker::State::kOpen &&
                             core.state(SlabCore::Use::kRead) != Breaker::State::kOpen);
    if (report.trouble.empty()) report.trouble = core.trouble();
  }
  return report;
}

void Impl::close(TimePoint deadline, std::function<void()> closed) {
  BATON_CHECK(!closing_, "the NVMe tier is closed twice");
  closing_ = true;
  closed_ = std::move(closed);
  close_timer_.expires_at(deadline);
  close_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    for (const auto& call : calls_) {
      if (const auto alive = call.lock()) alive->end(shutting_down());
    }
    for (const auto& device : devices_) device->abandon(shutting_down());
    changed();
  });
  changed();
}

bool Impl::idle() const {
  return std::all_of(devices_.begin(), devices_.end(),
                     [](const auto& device) { return device->idle(); });
}

void Impl::changed() {
  ChunkCount held;
  uint64_t capacity = 0;
  for (const auto& device : devices_) {
    const SlabCore& core = device->core();
    held.chunks += core.index.held().chunks;
    held.bytes += core.index.held().bytes;
    capacity += core.layout.slabs * core.layout.slab_bytes;
  }
  metrics_.set_held(held, capacity);
  if (!closing_ || closed_ == nullptr || !idle()) return;
  close_timer_.cancel();
  // Later: this may be inside what the owner is about to destroy.
  boost::asio::post(io_, [closed = std::exchange(closed_, nullptr)] { closed(); });
}

}  // namespace

Result<std::unique_ptr<Tier>> NvmeTier::open(boost::asio::io_context& io, NvmeConfig config,
                                             std::shared_ptr<SlotPool> memory, Metrics& metrics) {
  return open(io, std::move(config), std::move(memory), metrics, {});
}

Result<std::unique_ptr<Tier>> NvmeTier::open(boost::asio::io_context& io, NvmeConfig config,
                                             std::shared_ptr<SlotPool> memory, Metrics& metrics,
                                             const nvme::Seams& seams) {
  BATON_RETURN_IF_ERROR(validate(config));
  auto tier = std::make_unique<Impl>(io, std::move(config), std::move(memory), metrics);
  BATON_RETURN_IF_ERROR(tier->open(seams));
  return std::unique_ptr<Tier>(std::move(tier));
}

}  // namespace baton
