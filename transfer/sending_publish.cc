// What of a handoff goes to the channel, and from where: a slot, the engine's blocks themselves, or
// these by way of staging memory.
#include "kernels/segment_plan.h"
#include "transfer/base/log.h"
#include "transfer/sending.h"

namespace baton {

using protocol::Effects;
using protocol::End;

std::optional<Sending::Source> Sending::next_source(Channel& channel) const {
  if (!machine_ || end_) return std::nullopt;
  const std::optional<uint32_t> segment = machine_->next_segment();
  if (!segment || channel.full_for(request_.handoff)) return std::nullopt;
  return source_of(channel, *segment);
}

Sending::Source Sending::source_of(const Channel& channel, uint32_t segment) const {
  if (chunks_[segment / layers()].slot) return Source::kSlot;
  if (!channel.sends_blocks() || core_.config.kv.cuda_device) return Source::kStaging;
  const SegmentPlace place = place_of(segment);
  return in_long_runs(place.blocks, place.order) ? Source::kBlocks : Source::kStaging;
}

// In the engine's blocks.
SegmentPlace Sending::place_of(uint32_t segment) const {
  const uint32_t c = segment / layers();
  const uint32_t layer = segment % layers();
  const ChunkWork& chunk = chunks_[c];
  return {core_.segment(layer, blocks_, c * core_.config.chunk_tokens, chunk.tokens),
          core_.group().order, seed_of(chunk.id, layer, chunk.segment_bytes)};
}

uint64_t Sending::unacknowledged_bytes() const {
  return machine_ ? machine_->unacknowledged_bytes() : 0;
}

bool Sending::publish_next(Channel& channel) {
  const std::optional<uint32_t> segment = machine_->take();
  if (!segment) return true;
  if (busy_since_ == TimePoint{}) busy_since_ = now();
  transport_ = channel.transport();
  ChunkWork& chunk = chunks_[*segment / layers()];
  core_.record(TimelineEvent::Stage::kSend, request_.handoff, *segment / layers(),
               *segment % layers(), chunk.segment_bytes, now());
  switch (source_of(channel, *segment)) {
    case Source::kSlot:
      return publish_from_slot(channel, *segment, chunk, *segment % layers());
    case Source::kBlocks:
      return send_from_blocks(channel, *segment);
    case Source::kStaging:
      break;
  }
  return publish_by_staging(channel, *segment, chunk);
}

bool Sending::publish_from_slot(Channel& channel, uint32_t segment, ChunkWork& chunk,
                                uint32_t layer) {
  // Asked for again: perhaps it did not get lost on its way, but has gone bad here.
  if (machine_->publishes(segment) > 1 && !verifies(chunk, layer)) {
    drop_spoilt(segment, chunk, layer);
    return true;
  }
  const Status status =
      channel.publish({request_.handoff, segment, chunk.segment_bytes, chunk.checksums[layer]},
                      chunk.slot, layer * chunk.segment_bytes, [](const Status&) {});
  Effects effects;
  if (status.code() == Code::kResourceExhausted) {
    machine_->give_back(now(), segment, effects);
    apply(std::move(effects));
    return false;
  }
  if (status.ok()) machine_->published(now(), segment, effects);
  // The engine's blocks are not read for this: the slot is the source, and the channel keeps it.
  machine_->publish_done(now(), segment, effects);
  apply(std::move(effects));
  if (!status.ok()) abort(End::kFailed, status);
  return true;
}

bool Sending::verifies(const ChunkWork& chunk, uint32_t layer) const {
  return chunk.checksums[layer] == checksum(seed_of(chunk.id, layer, chunk.segment_bytes),
                                            chunk.slot.bytes().data() + layer * chunk.segment_bytes,
                                            chunk.segment_bytes);
}

// Nobody is to be served from that slot any more.
void Sending::drop_spoilt(uint32_t segment, ChunkWork& chunk, uint32_t layer) {
  const Status why(Code::kChecksum, "chunk " + chunk.id.key.to_hex() +
                                        " does not verify in layer " + std::to_string(layer) +
                                        " where it is kept");
  core_.node_metrics.checksum_failure("host");
  log::error("{}", why.message());
  core_.tier->erase(chunk.id, chunk.slot.id());
  chunk.spoilt = true;
  Effects effects;
  machine_->give_back(now(), segment, effects);
  apply(std::move(effects));
  // While the engine holds all of its blocks it is gathered anew, the transient way.
  if (!chunk.whole || !on_released_ || chunk.computed != layers()) return abort(End::kFailed, why);
  chunk.whole = false;
  chunk.slot.reset();
}

// Without a copy of ours: the channel reads the blocks itself.
bool Sending::send_from_blocks(Channel& channel, uint32_t segment) {
  const uint64_t bytes = chunks_[segment / layers()].segment_bytes;
  const Status status =
      channel.send({request_.handoff, segment, bytes, {}}, place_of(segment),
                   [self = shared_from_this(), segment, bytes](const Status& sent) {
                     self->sent_from_blocks(segment, bytes, sent);
                   });
  Effects effects;
  if (status.code() == Code::kResourceExhausted) {
    machine_->give_back(now(), segment, effects);
    apply(std::move(effects));
    return false;
  }
  if (status.ok()) {
    ++sends_from_blocks_;
    machine_->published(now(), segment, effects);
  } else {
    machine_->publish_done(now(), segment, effects);
  }
  apply(std::move(effects));
  if (!status.ok()) abort(End::kFailed, status);
  return true;
}

void Sending::sent_from_blocks(uint32_t segment, uint64_t bytes, const Status& status) {
  --sends_from_blocks_;
  if (status.ok()) core_.node_metrics.copied(NodeMetrics::Copy::kSentFromBlocks, bytes);
  Effects effects;
  machine_->publish_done(now(), segment, effects);
  apply(std::move(effects));
  if (link_) link_->pump();
  settle();
}

bool Sending::publish_by_staging(Channel& channel, uint32_t segment, ChunkWork& chunk) {
  Result<std::optional<Staging>> staging = channel.acquire(chunk.segment_bytes);
  if (!staging.ok() || !*staging) {
    Effects effects;
    machine_->give_back(now(), segment, effects);
    apply(std::move(effects));
    if (!staging.ok()) abort(End::kFailed, staging.status());
    return !staging.ok();
  }
  ++staging_gathers_;
  auto lent = std::make_shared<Staging>(std::move(**staging));
  const TimePoint began = now();
  const SegmentPlace place = place_of(segment);
  core_.copier->gather(
      place.blocks, place.order, place.seed, lent->bytes.data(),
      [self = shared_from_this(), segment, lent, began](const Result<Checksum>& checksum) {
        self->staged(segment, checksum, std::move(*lent), began);
      });
  return true;
}

void Sending::staged(uint32_t segment, const Result<Checksum>& checksum, Staging staging,
                     TimePoint began) {
  --staging_gathers_;
  gather_time_ += now() - began;
  const uint64_t bytes = chunks_[segment / layers()].segment_bytes;
  core_.record(TimelineEvent::Stage::kGather, request_.handoff, segment / layers(),
               segment % layers(), bytes, began);
  if (checksum.ok()) core_.node_metrics.copied(NodeMetrics::Copy::kGather, bytes);
  Effects effects;
  Status status = checksum.status();
  Channel* channel = link_->channel();
  if (status.ok() && !end_ && channel != nullptr) {
    machine_->published(now(), segment, effects);
    status = channel->publish({request_.handoff, segment, bytes, *checksum}, std::move(staging),
                              [](const Status&) {});
  }
  // Packed: the blocks are not read any more. (A RESEND gathers again.)
  machine_->publish_done(now(), segment, effects);
  apply(std::move(effects));
  if (!checksum.ok()) {
    gather_failed(status);
  } else if (!status.ok()) {
    abort(End::kFailed, status);
  }
  if (link_) link_->pump();
  settle();
}

}  // namespace baton
