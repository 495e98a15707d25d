// What of a handoff goes to the channel, and from where: a slot, or the engine's blocks by way of
// staging memory.
#include "transfer/sending.h"

namespace baton {

using protocol::Effects;
using protocol::End;

std::optional<uint64_t> Sending::next_bytes() const {
  if (!machine_ || end_) return std::nullopt;
  return machine_->next_segment_bytes();
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
  const uint32_t layer = *segment % layers();
  core_.record(TimelineEvent::Stage::kSend, request_.handoff, *segment / layers(), layer,
               chunk.segment_bytes, now());
  if (!chunk.slot) return publish_from_blocks(channel, *segment, chunk, layer);
  return publish_from_slot(channel, *segment, chunk, layer);
}

bool Sending::publish_from_slot(Channel& channel, uint32_t segment, ChunkWork& chunk,
                                uint32_t layer) {
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

bool Sending::publish_from_blocks(Channel& channel, uint32_t segment, ChunkWork& chunk,
                                  uint32_t layer) {
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
  core_.copier->gather(
      core_.segment(layer, blocks_, segment / layers() * core_.config.chunk_tokens, chunk.tokens),
      core_.group().order, NodeCore::seed(chunk.id, layer, chunk.segment_bytes), lent->bytes.data(),
      [self = shared_from_this(), segment, lent, began](Checksum checksum) {
        self->staged(segment, checksum, std::move(*lent), began);
      });
  return true;
}

void Sending::staged(uint32_t segment, Checksum checksum, Staging staging, TimePoint began) {
  --staging_gathers_;
  gather_time_ += now() - began;
  const uint64_t bytes = chunks_[segment / layers()].segment_bytes;
  core_.record(TimelineEvent::Stage::kGather, request_.handoff, segment / layers(),
               segment % layers(), bytes, began);
  core_.node_metrics.copied(NodeMetrics::Copy::kGather, bytes);
  Effects effects;
  Status status;
  Channel* channel = link_->channel();
  if (!end_ && channel != nullptr) {
    machine_->published(now(), segment, effects);
    status = channel->publish({request_.handoff, segment, bytes, checksum}, std::move(staging),
                              [](const Status&) {});
  }
  // Packed: the blocks are not read any more. (A RESEND gathers again.)
  machine_->publish_done(now(), segment, effects);
  apply(std::move(effects));
  if (!status.ok()) abort(End::kFailed, status);
  if (link_) link_->pump();
  settle();
}

}  // namespace baton
