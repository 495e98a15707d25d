#include "transfer/tiers/nvme/slab_store.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

namespace baton::nvme {

SlabStore::SlabStore(SlabCore& core, Chunk chunk, uint32_t slab, Tier::OnDone done,
                     std::function<void()> settled)
    : core_(core),
      chunk_(std::move(chunk)),
      slab_(slab),
      slot_bytes_(chunk_.slot.bytes().size()),
      done_(std::move(done)),
      settled_(std::move(settled)),
      timer_(core.io) {
  header_ = {.generation = core.next_generation(),
             .id = chunk_.id,
             .origin = chunk_.origin,
             .tokens = chunk_.tokens,
             .order = chunk_.order,
             .segment_bytes = static_cast<uint32_t>(chunk_.segment_bytes),
             .checksums = chunk_.checksums};
}

void SlabStore::start(TimePoint deadline) {
  timer_.expires_at(deadline);
  timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (error || self->told_) return;
    // What only waited for its turn says nothing about the device.
    if (self->abandon(Status(Code::kDeadlineExceeded, "the chunk was not stored in time")))
      self->core_.failed(SlabCore::Use::kStore, ETIMEDOUT);
  });
  enter(core_.index.at(slab_).stale() ? Step::kTombstone : Step::kData);
}

void SlabStore::enter(Step step) {
  step_ = step;
  switch (step) {
    case Step::kRetract:
      error_ = 0;
      [[fallthrough]];
    case Step::kTombstone:
      return write_header(Tombstone{core_.next_generation()});
    case Step::kData:
      return write_data();
    case Step::kFlushData:
    case Step::kFlushHeader:
      return flush();
    case Step::kHeader:
      core_.index.expect(slab_, HeldChunk::of(header_));
      return write_header(header_);
  }
}

std::function<void(int)> SlabStore::on_end() {
  ++outstanding_;
  return [self = shared_from_this()](int error) { self->ended(error); };
}

void SlabStore::write_header(const SlabHeader& header) {
  core_.write_header(this, slab_, header, on_end());
}

void SlabStore::flush() {
  core_.queue.push(
      Lane::kWrite,
      {.owner = this, .begin = [] { return Disk::Io{Disk::Kind::kFlush}; }, .end = on_end()});
}

void SlabStore::write_data() {
  const auto layers = static_cast<uint32_t>(chunk_.checksums.size());
  const auto together =
      static_cast<uint32_t>(std::max<uint64_t>(1, core_.config.io_bytes / header_.stride()));
  ++outstanding_;  // not over before all of it waits
  for (uint32_t first = 0; first < layers; first += together)
    write_run(first, std::min(together, layers - first));
  --outstanding_;
}

void SlabStore::write_run(uint32_t first_layer, uint32_t layers) {
  const uint64_t stride = header_.stride();
  const uint64_t offset = core_.layout.data_offset(slab_) + first_layer * stride;
  std::byte* const data = chunk_.slot.bytes().data();
  const auto bytes = static_cast<uint32_t>(layers * stride);
  if (core_.aligned(data, chunk_.segment_bytes)) {
    const Disk::Io write{Disk::Kind::kWrite, offset, data + first_layer * stride, bytes};
    core_.queue.push(Lane::kWrite,
                     {.owner = this, .begin = [write] { return write; }, .end = on_end()});
    return;
  }
  const auto bounce = std::make_shared<BlockBuffer>();
  core_.queue.push(Lane::kWrite, {.owner = this,
                                  .begin =
                                      [this, bounce, first_layer, layers, offset, bytes] {
                                        *bounce = core_.bounces.take(bytes);
                                        return Disk::Io{Disk::Kind::kWrite, offset,
                                                        copy_out(*bounce, first_layer, layers).data,
                                                        bytes};
                                      },
                                  .end =
                                      [this, bounce, end = on_end()](int error) {
                                        core_.bounces.give_back(std::move(*bounce));
                                        end(error);
                                      }});
}

Disk::Io SlabStore::copy_out(BlockBuffer& bounce, uint32_t first_layer, uint32_t layers) const {
  const uint64_t stride = header_.stride();
  const size_t bytes = chunk_.segment_bytes;
  for (uint32_t i = 0; i < layers; ++i) {
    std::byte* const to = bounce.data() + i * stride;
    std::memcpy(to, chunk_.slot.bytes().data() + (first_layer + i) * bytes, bytes);
    std::memset(to + bytes, 0, stride - bytes);
  }
  core_.metrics.copied_unaligned(layers * bytes);
  return {.data = bounce.data()};
}

void SlabStore::ended(int error) {
  if (error != 0 && error_ == 0) error_ = error;
  if (--outstanding_ == 0) advance();
}

void SlabStore::advance() {
  if (error_ != 0) core_.failed(SlabCore::Use::kStore, error_);
  const bool header_there = step_ == Step::kHeader || step_ == Step::kFlushHeader;
  if (error_ != 0 && step_ != Step::kRetract) {
    if (!header_there) return settle(core_.io_status(error_));
    tell(core_.io_status(error_));
    return enter(Step::kRetract);
  }
  if (header_there && !wanted()) return enter(Step::kRetract);
  if (step_ == Step::kTombstone || (step_ == Step::kRetract && error_ == 0)) core_.cleaned(slab_);
  if (!wanted()) return settle();
  const bool flush = core_.config.flush_stores;
  switch (step_) {
    case Step::kTombstone:
      return enter(Step::kData);
    case Step::kData:
      return enter(flush ? Step::kFlushData : Step::kHeader);
    case Step::kFlushData:
      return enter(Step::kHeader);
    case Step::kHeader:
      return flush ? enter(Step::kFlushHeader) : settle();
    case Step::kFlushHeader:
    case Step::kRetract:
      return settle();
  }
}

void SlabStore::settle(const Status& otherwise) {
  if (std::exchange(over_, true)) return;
  const auto self = shared_from_this();
  const bool stored =
      otherwise.ok() && wanted() && (step_ == Step::kHeader || step_ == Step::kFlushHeader);
  chunk_.slot.reset();
  if (stored) {
    core_.index.publish(slab_);
    core_.succeeded(SlabCore::Use::kStore);
    core_.metrics.stored(payload_bytes());
  } else {
    core_.release(slab_);
  }
  // Before it is told: by then it counts no more.
  if (const auto settled = std::exchange(settled_, nullptr)) settled();
  if (stored || !otherwise.ok()) return tell(otherwise);
  tell(Status(Code::kCancelled, "the chunk was erased while it was being stored"));
}

void SlabStore::tell(const Status& status) {
  if (told_) return;
  told_ = true;
  timer_.cancel();
  core_.metrics.store_ended(status.code());
  if (const auto done = std::exchange(done_, nullptr)) done(status);
}

void SlabStore::forget() {
  if (std::exchange(forgotten_, true)) return;
  if (step_ >= Step::kHeader) return;  // followed by the tombstone
  outstanding_ -= static_cast<uint32_t>(core_.queue.drop(this));
  // Not inside this call.
  if (outstanding_ == 0)
    boost::asio::post(core_.io, [self = shared_from_this()] { self->settle(); });
}

bool SlabStore::abandon(const Status& why) {
  if (told_) return false;
  const auto self = shared_from_this();
  // A tombstone that waits stays: the header is there.
  if (step_ != Step::kRetract) outstanding_ -= static_cast<uint32_t>(core_.queue.drop(this));
  if (outstanding_ == 0 && step_ != Step::kFlushHeader) {
    settle(why);
    return false;
  }
  const bool under_way = outstanding_ > 0;
  tell(why);
  if (!under_way) enter(Step::kRetract);
  return under_way;
}

}  // namespace baton::nvme
