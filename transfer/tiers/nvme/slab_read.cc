#include "transfer/tiers/nvme/slab_read.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/checksum.h"
#include "transfer/base/log.h"
#include "transfer/base/text.h"

namespace baton::nvme {
namespace {

HeldChunk held_in(const SlabIndex::Entry& entry) {
  return {entry.generation(), entry.id(), entry.origin(), entry.segment_bytes(),
          static_cast<uint16_t>(entry.layers())};
}

}  // namespace

SlabRead::SlabRead(SlabCore& core, uint32_t slab, TierReadRequest request, Tier::OnLayer on_layer,
                   Tier::OnRead done, std::function<void()> settled)
    : core_(core),
      slab_(slab),
      held_(held_in(core.index.at(slab))),
      bytes_(held_.segment_bytes),
      stride_(whole_blocks(bytes_)),
      request_(std::move(request)),
      on_layer_(std::move(on_layer)),
      done_(std::move(done)),
      settled_(std::move(settled)),
      timer_(core.io),
      slot_bytes_(request_.into.bytes().data()),
      writer_(request_.into.pool()->add_writer(request_.into)) {
  core_.index.pin(slab_);
}

void SlabRead::start() {
  timer_.expires_at(request_.deadline);
  timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (error || self->told_) return;
    // What only waited for its turn says nothing about the device.
    if (self->abandon(Status(Code::kDeadlineExceeded, "the chunk was not read in time")))
      self->core_.failed(SlabCore::Use::kRead, ETIMEDOUT);
  });
  ++outstanding_;  // not over before all of it waits
  read_header();
  const auto together =
      static_cast<uint32_t>(std::max<uint64_t>(1, core_.config.io_bytes / stride_));
  for (uint32_t first = 0; first < held_.layers; first += together)
    read_run(first, std::min(together, held_.layers - first));
  --outstanding_;
}

void SlabRead::read_header() {
  ++outstanding_;
  const auto block = std::make_shared<BlockBuffer>();
  core_.queue.push(Lane::kRead, {.owner = this,
                                 .begin =
                                     [this, block] {
                                       *block = core_.blocks.take(kBlockBytes);
                                       return Disk::Io{Disk::Kind::kRead,
                                                       core_.layout.header_offset(slab_),
                                                       block->data(), kBlockBytes};
                                     },
                                 .end =
                                     [self = shared_from_this(), block](int error) {
                                       error != 0 ? self->fail(error) : self->header_came(*block);
                                       self->core_.blocks.give_back(std::move(*block));
                                       self->ended();
                                     }});
}

void SlabRead::read_run(uint32_t first, uint32_t layers) {
  ++outstanding_;
  const bool direct = core_.aligned(slot_bytes_, bytes_);
  const Run run{first, layers, direct ? nullptr : std::make_shared<BlockBuffer>()};
  const uint64_t offset = core_.layout.data_offset(slab_) + first * stride_;
  const auto bytes = static_cast<uint32_t>(layers * stride_);
  core_.queue.push(Lane::kRead, {.owner = this,
                                 .begin =
                                     [this, run, offset, bytes] {
                                       if (run.bounce) *run.bounce = core_.bounces.take(bytes);
                                       std::byte* const to = run.bounce ? run.bounce->data()
                                                                        : layer_in_slot(run.first);
                                       return Disk::Io{Disk::Kind::kRead, offset, to, bytes};
                                     },
                                 .end =
                                     [self = shared_from_this(), run](int error) {
                                       if (error != 0) {
                                         self->fail(error);
                                         return self->end_run(run);
                                       }
                                       self->run_came(run);
                                     }});
}

void SlabRead::header_came(const BlockBuffer& block) {
  if (told_) return;
  SlabHeader header = decode_header(block.block(), core_.uuid, slab_, core_.layout.slab_bytes);
  auto* const chunk = std::get_if<ChunkHeader>(&header);
  if (chunk == nullptr || HeldChunk::of(*chunk) != held_) return spoilt("its header");
  header_ = std::move(*chunk);
  chunk_ = {.id = held_.id,
            .tokens = header_->tokens,
            .order = header_->order,
            .segment_bytes = bytes_,
            .checksums = header_->checksums,
            .slot = request_.into,
            .origin = held_.origin};
  // One a turn, as if they came now.
  for (const Run& run : std::exchange(early_, {}))
    boost::asio::post(core_.io, [self = shared_from_this(), run] { self->run_came(run); });
}

void SlabRead::run_came(const Run& run) {
  if (!told_ && !header_) return early_.push_back(run);
  if (!told_) verify(run);
  end_run(run);
}

void SlabRead::verify(const Run& run) {
  for (uint32_t layer = run.first; layer < run.first + run.layers && !told_; ++layer) {
    std::byte* const bytes = layer_in_slot(layer);
    if (run.bounce) {
      std::memcpy(bytes, run.bounce->data() + (layer - run.first) * stride_, bytes_);
      core_.metrics.copied_unaligned(bytes_);
    }
    const Checksum found = checksum(seed_of(held_.id, layer, bytes_), bytes, bytes_);
    if (found != header_->checksums[layer]) return spoilt("layer " + number(layer));
    ++verified_;
    core_.metrics.read(bytes_);
    if (on_layer_) on_layer_(chunk_, layer);
  }
  if (told_ || verified_ < held_.layers) return;
  core_.succeeded(SlabCore::Use::kRead);
  core_.index.touch(slab_);
  tell(std::move(chunk_));
}

void SlabRead::end_run(const Run& run) {
  if (run.bounce) core_.bounces.give_back(std::move(*run.bounce));
  ended();
}

void SlabRead::fail(int error) {
  if (told_) return;  // one call counts once
  core_.failed(SlabCore::Use::kRead, error);
  tell(core_.io_status(error));
}

void SlabRead::spoilt(const std::string& what) {
  const SlabIndex::Entry& entry = core_.index.at(slab_);
  if (entry.state() != SlabIndex::State::kHeld || entry.generation() != held_.generation)
    return tell(Status(Code::kNotFound, "the chunk was erased while it was being read"));
  core_.metrics.checksum_failure();
  log::warn("nvme: a chunk does not verify and is dropped path={} slab={} key={} what='{}'",
            core_.path, slab_, held_.id.key.to_hex(), what);
  core_.drop(slab_, held_.generation);
  tell(Status(Code::kChecksum, "chunk " + held_.id.key.to_hex() + " on " + core_.path + ": " +
                                   what + " does not verify"));
}

// Followed by ended(), which tells: by then it counts no more, where the device is done with it.
void SlabRead::tell(Result<Chunk> result) {
  if (told_) return;
  core_.metrics.read_ended(result.status().code());
  result_ = std::move(result);
  stop();
}

void SlabRead::stop() {
  told_ = true;
  timer_.cancel();
  request_.into.reset();
  chunk_.slot.reset();
  outstanding_ -= static_cast<uint32_t>(core_.queue.drop(this));
  outstanding_ -= static_cast<uint32_t>(early_.size());
  early_.clear();
  // Not inside a callback, which must not be destroyed while it runs; nor when the device is done,
  // which may be never.
  boost::asio::post(core_.io, [self = shared_from_this()] {
    self->on_layer_ = nullptr;
    self->done_ = nullptr;
  });
}

void SlabRead::ended() {
  const auto self = shared_from_this();
  --outstanding_;
  if (told_ && outstanding_ == 0) settle();
  if (!result_) return;
  const auto done = std::exchange(done_, nullptr);
  done(*std::exchange(result_, std::nullopt));
}

void SlabRead::settle() {
  const auto self = shared_from_this();
  writer_.reset();
  core_.unpin(slab_);
  if (const auto settled = std::exchange(settled_, nullptr)) settled();
}

void SlabRead::cancel() {
  if (told_) return;
  stop();
  if (outstanding_ == 0) settle();
}

bool SlabRead::abandon(const Status& why) {
  if (told_) return false;
  const auto self = shared_from_this();
  ++outstanding_;  // not over inside the callback
  tell(why);
  const bool under_way = outstanding_ > 1;
  ended();
  return under_way;
}

}  // namespace baton::nvme
