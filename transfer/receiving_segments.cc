// The segments of a handoff as they come: copied into the engine's blocks and verified, and kept as
// well where the decoder retains.
#include <algorithm>
#include <memory>
#include <utility>

#include "kernels/segment_plan.h"
#include "transfer/base/log.h"
#include "transfer/receiving.h"

namespace baton {

using protocol::Effects;
using protocol::ReceiverHandoff;

// Whether this segment is to be copied now; what is not wanted is counted.
bool Receiving::wanted(const SegmentHeader& header) {
  switch (machine_.on_segment(now(), header.segment, header.bytes)) {
    case ReceiverHandoff::Arrival::kDuplicate:
      core_.node_metrics.segment_dropped("duplicate");
      return false;
    case ReceiverHandoff::Arrival::kUnwanted:
      core_.node_metrics.segment_dropped("unwanted");
      return false;
    case ReceiverHandoff::Arrival::kCopy:
      break;
  }
  if (transport_.empty() && link_ && link_->channel() != nullptr)
    transport_ = link_->channel()->transport();
  return true;
}

std::variant<ChannelEvents::Otherwise, SegmentPlace> Receiving::place(const SegmentHeader& header) {
  using Otherwise = ChannelEvents::Otherwise;
  if (machine_.state() == ReceiverHandoff::State::kReceiving &&
      header.segment < machine_.segments().segments()) {
    const protocol::SegmentId id = machine_.segments().id(header.segment);
    const SegmentPlace place{target(id), machine_.offer()->groups[id.group].order,
                             seed_of(chunk_id(id.chunk), id.layer, header.bytes)};
    // Before any memory is lent for it.
    if (header.bytes != machine_.segments().bytes(header.segment)) {
      core_.node_metrics.segment_dropped("size");
      return Otherwise::kDrop;
    }
    if (machine_.present(header.segment)) {
      core_.node_metrics.segment_dropped("duplicate");
      return Otherwise::kDrop;
    }
    // What the engine holds in part is verified whole and written in part: that takes a copy. A
    // GPU's memory no channel writes.
    if (core_.config.kv.cuda_device || first_wanted_token(id.chunk) != 0 ||
        !in_long_runs(place.blocks, place.order))
      return Otherwise::kStage;
    if (wanted(header)) {
      if (core_.config.timeline != nullptr) placed_at_[header.segment] = now();
      return place;
    }
  } else {
    core_.node_metrics.segment_dropped("unwanted");
  }
  return Otherwise::kDrop;
}

void Receiving::on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) {
  if (const auto placed = placed_at_.extract(header.segment)) record_copy(header, placed.mapped());
  if (!checksum.ok()) return came(header, false);
  core_.node_metrics.copied(NodeMetrics::Copy::kReceivedIntoBlocks, header.bytes);
  verify(header, *checksum);
}

void Receiving::record_copy(const SegmentHeader& header, TimePoint began) const {
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  core_.record(TimelineEvent::Stage::kVerifyScatter, machine_.handoff(), id.chunk, id.layer,
               header.bytes, began);
}

void Receiving::on_segment(const SegmentHeader& header, ReceivedBytes payload) {
  if (header.bytes != payload.bytes().size()) return core_.node_metrics.segment_dropped("size");
  if (!wanted(header)) return;
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  scatter(header, machine_.offer()->groups[id.group].order, std::move(payload),
          NodeMetrics::Copy::kScatter);
}

void Receiving::scatter(const SegmentHeader& header, PayloadOrder order, ReceivedBytes payload,
                        NodeMetrics::Copy why) {
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  const TimePoint began = now();
  auto bytes = std::make_shared<ReceivedBytes>(std::move(payload));
  core_.copier->scatter(
      target(id), order, seed_of(chunk_id(id.chunk), id.layer, header.bytes), bytes->bytes().data(),
      first_wanted_token(id.chunk),
      [self = shared_from_this(), header, bytes, began, why](const Result<Checksum>& checksum) {
        bytes->reset();
        // Of several that were asked for at once the time counts once.
        const TimePoint at_work = std::max(began, self->copied_at_);
        self->copied_at_ = now();
        self->copy_time_ += self->copied_at_ - at_work;
        self->record_copy(header, at_work);
        if (!checksum.ok()) return self->scatter_failed(header, checksum.status());
        self->core_.node_metrics.copied(why, header.bytes);
        self->verify(header, *checksum);
      });
}

void Receiving::verify(const SegmentHeader& header, Checksum checksum) {
  const bool verified = checksum == header.checksum;
  if (!verified) {
    const protocol::SegmentId id = machine_.segments().id(header.segment);
    core_.node_metrics.checksum_failure("handoff");
    log::warn("a segment does not verify handoff={} chunk={} layer={}",
              machine_.handoff().to_string(), id.chunk, id.layer);
  }
  came(header, verified);
}

// Another try would fare no better: the handoff ends, and the engine computes.
void Receiving::scatter_failed(const SegmentHeader& header, const Status& why) {
  if (!end_) fail(why);
  came(header, false);
}

// Nothing writes for this segment any more.
void Receiving::came(const SegmentHeader& header, bool verified) {
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  Effects effects;
  machine_.copy_done(now(), header.segment, verified, effects);
  if (verified && core_.config.retain_received && !own_) retain(header.segment, header.checksum);
  if (!layer_told_[id.layer] && machine_.layer_complete(id.layer)) {
    layer_told_[id.layer] = true;
    feed_->layer_complete(id.layer);
  }
  apply(std::move(effects));
  // Tiers verify what they read: it went bad in memory since, and nobody sends it again.
  if (!verified && own_ && !end_)
    fail(Status(Code::kChecksum, "a layer out of a tier does not verify"));
  settle();
}

// Decoder-side retention: one more, counted, copy, out of the blocks that were just verified.
void Receiving::retain(uint32_t segment, Checksum checksum) {
  if (core_.retained == nullptr || end_) return;
  const protocol::SegmentId id = machine_.segments().id(segment);
  auto [it, first] = retains_.try_emplace(id.chunk);
  Retain& retain = it->second;
  if (first) {
    std::optional<NodeCore::RetainedSlot> retained = core_.retained_slot(request_.tenant);
    if (!retained) return core_.node_metrics.retain_skipped();
    retain.slot = std::move(retained->slot);
    retain.reservation = std::move(retained->reservation);
    retain.checksums.assign(layers(), {});
  }
  if (!retain.slot) return;
  const uint64_t bytes = machine_.segments().bytes(segment);
  auto writer = std::make_shared<SlotWriter>(core_.retained->add_writer(retain.slot));
  ++local_copies_;
  core_.copier->gather(
      target(id), core_.group().order, seed_of(chunk_id(id.chunk), id.layer, bytes),
      retain.slot.bytes().data() + id.layer * bytes,
      [self = shared_from_this(), segment, checksum, writer](const Result<Checksum>& copied) {
        writer->reset();
        --self->local_copies_;
        self->retained(segment, checksum, copied);
      });
}

void Receiving::retained(uint32_t segment, Checksum expected, const Result<Checksum>& checksum) {
  const protocol::SegmentId id = machine_.segments().id(segment);
  const uint64_t bytes = machine_.segments().bytes(segment);
  Retain& retain = retains_[id.chunk];
  const bool same_order = core_.group().order == machine_.offer()->groups[id.group].order;
  if (!checksum.ok()) {
    log::warn("a received chunk is not retained why=\"{}\"", checksum.status().message());
    retain.slot.reset();
  } else {
    core_.node_metrics.copied(NodeMetrics::Copy::kRetainReceived, bytes);
  }
  if (retain.slot && same_order && *checksum != expected) {
    core_.node_metrics.checksum_failure("retain");
    retain.slot.reset();
  }
  if (retain.slot) {
    retain.checksums[id.layer] = *checksum;
    if (++retain.layers == layers()) {
      const Chunk whole{.id = chunk_id(id.chunk),
                        .tokens = machine_.segments().tokens_of_chunk(id.chunk),
                        .order = core_.group().order,
                        .segment_bytes = bytes,
                        .checksums = std::move(retain.checksums),
                        .slot = std::move(retain.slot),
                        .origin = core_.origin(request_.tenant)};
      retain.reservation.reset();
      // So that the end of the prompt does not push out its beginning.
      if (core_.keep(whole, begun_))
        if (std::optional<HostTier::Pin> pin = core_.tier->pin(whole.id))
          pins_.push_back(std::move(*pin));
    }
  }
  settle();
}

}  // namespace baton
