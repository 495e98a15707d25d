// What the engine has computed of a handoff: offered, and gathered into slots where it is retained.
#include <algorithm>
#include <utility>

#include "transfer/sending.h"

namespace baton {

using protocol::Effects;
using protocol::End;

void Sending::on_feed() {
  if (feed_ == nullptr || gone_) return;
  SendFeed::Update update = feed_->drain();
  compute_ = update.compute;
  if (!aborted_) add_blocks(update.new_blocks);
  if (update.aborted && !session_over_) give_up(*update.aborted);
  if (update.revoked && on_released_ && !aborted_) give_up(*update.revoked);
  if (update.begun && !offered_ && !aborted_) offer();
  if (update.begun && !aborted_) {
    for (uint32_t layer = 0; layer < layers(); ++layer) {
      uint32_t& chunk = ready_chunks_[layer];
      const uint32_t first = chunk;
      while (chunk < chunks_.size() && !aborted_) {
        const uint32_t last = chunk * core_.config.chunk_tokens + chunks_[chunk].tokens;
        if (last > update.layer_tokens[layer]) break;
        if (last > blocks_.size() * core_.config.kv.layout.block_tokens) {
          reject("layer_ready says " + std::to_string(update.layer_tokens[layer]) +
                 " tokens, the block table has " + std::to_string(blocks_.size()) + " blocks");
          break;
        }
        computed(chunk++, layer);
      }
      if (chunk != first) {
        core_.record(TimelineEvent::Stage::kCompute, request_.handoff, first, layer, 0,
                     std::exchange(computing_since_, now()));
      }
    }
    gather_next();
  }
  session_over_ = session_over_ || update.finished;
  pump();
  settle();
}

// Nothing more is read of the blocks once what is under way is done.
void Sending::give_up(const std::string& why) {
  aborted_ = session_over_ = true;
  gather_queue_.clear();
  if (!end_) abort(End::kCancelled, Status(Code::kCancelled, "the prefiller's engine: " + why));
}

// The table is checked here, once: what a gather reads must be the engine's own KV.
void Sending::add_blocks(const std::vector<uint32_t>& blocks) {
  if (blocks_.size() + blocks.size() > blocks_.capacity())
    return reject("the block table has " + std::to_string(blocks_.size() + blocks.size()) +
                  " blocks: expected at most " + std::to_string(blocks_.capacity()));
  for (const uint32_t block : blocks)
    if (block >= core_.config.kv.blocks)
      return reject("block " + std::to_string(block) + " is none of the cache's " +
                    std::to_string(core_.config.kv.blocks));
  blocks_.insert(blocks_.end(), blocks.begin(), blocks.end());
}

void Sending::reject(const std::string& what) {
  aborted_ = true;
  gather_queue_.clear();
  if (!end_) abort(End::kFailed, Status(Code::kInvalidArgument, "the prefiller's engine: " + what));
}

void Sending::offer() {
  offered_ = true;
  offered_at_ = computing_since_ = now();
  for (ChunkWork& chunk : chunks_) take_from_tier(chunk);
  if (!machine_ || end_) return;
  protocol::Offer offer{.handoff = request_.handoff,
                        .tokens = request_.tokens,
                        .chunk_tokens = chunk_tokens_,
                        .retained = core_.config.mode == SendMode::kRetained,
                        .tenant = request_.tenant,
                        .groups = {group_},
                        .keys = request_.keys};
  Effects effects;
  machine_->offer(offered_at_, std::move(offer), effects);
  apply(std::move(effects));
  if (end_) return;
  // What the tier holds may go at once: its bytes are those that the engine is about to compute.
  for (uint32_t c = 0; c < chunks_.size(); ++c)
    if (chunks_[c].whole)
      for (uint32_t l = 0; l < layers(); ++l) machine_->segment_ready(now(), segment_index(c, l));
  pump();
}

void Sending::take_from_tier(ChunkWork& chunk) {
  if (chunk.decided || core_.config.mode != SendMode::kRetained) return;
  std::optional<HostTier::Pin> pin = core_.tier->find(chunk.id);
  if (!pin) return;
  const Chunk& held = pin->chunk();
  if (held.tokens != chunk.tokens || held.order != core_.group().order) return;
  chunk.decided = chunk.whole = true;
  if (own()) return;
  chunk.slot = held.slot;
  chunk.checksums = held.checksums;
  pins_.push_back(std::move(*pin));
}

void Sending::computed(uint32_t c, uint32_t layer) {
  ChunkWork& chunk = chunks_[c];
  ++chunk.computed;
  if (chunk.whole) return;  // came from the tier
  decide(chunk);
  if (chunk.slot) {
    gather_queue_.push_back({c, layer});
  } else if (machine_ && !end_) {
    machine_->segment_ready(now(), segment_index(c, layer));
  }
}

// A chunk is retained where there is a slot when its first layer is computed; otherwise it goes
// the transient way, and stays in the engine's blocks until it is acknowledged.
void Sending::decide(ChunkWork& chunk) {
  if (chunk.decided) return;
  chunk.decided = true;
  if (core_.config.mode != SendMode::kRetained || core_.retained == nullptr) return;
  std::optional<NodeCore::RetainedSlot> retained = core_.retained_slot(request_.tenant);
  if (!retained) return core_.node_metrics.retain_skipped();
  chunk.slot = std::move(retained->slot);
  chunk.reservation = std::move(retained->reservation);
  chunk.checksums.assign(layers(), {});
}

void Sending::gather_next() {
  // As many as the copier has use for: each segment can leave while the next is gathered.
  while (retained_gathers_ < core_.copier->depth() && !gather_queue_.empty()) {
    const Job job = gather_queue_.front();
    gather_queue_.pop_front();
    ChunkWork& chunk = chunks_[job.chunk];
    ++retained_gathers_;
    auto writer = std::make_shared<SlotWriter>(core_.retained->add_writer(chunk.slot));
    const TimePoint began = now();
    core_.copier->gather(
        core_.segment(job.layer, blocks_, job.chunk * core_.config.chunk_tokens, chunk.tokens),
        core_.group().order, seed_of(chunk.id, job.layer, chunk.segment_bytes),
        chunk.slot.bytes().data() + job.layer * chunk.segment_bytes,
        [self = shared_from_this(), job, writer, began](const Result<Checksum>& checksum) {
          writer->reset();
          self->gather_time_ += now() - began;
          self->core_.record(TimelineEvent::Stage::kGather, self->request_.handoff, job.chunk,
                             job.layer, self->chunks_[job.chunk].segment_bytes, began);
          self->gathered(job, checksum);
        });
  }
}

void Sending::gathered(Job job, const Result<Checksum>& checksum) {
  --retained_gathers_;
  if (!checksum.ok()) return gather_failed(checksum.status());
  ChunkWork& chunk = chunks_[job.chunk];
  core_.node_metrics.copied(NodeMetrics::Copy::kGather, chunk.segment_bytes);
  chunk.checksums[job.layer] = *checksum;
  if (++chunk.gathered == layers() && !chunk.spoilt) {
    chunk.whole = true;
    const Chunk whole{.id = chunk.id,
                      .tokens = chunk.tokens,
                      .order = core_.group().order,
                      .segment_bytes = chunk.segment_bytes,
                      .checksums = chunk.checksums,
                      .slot = chunk.slot,
                      .origin = core_.origin(request_.tenant)};
    chunk.reservation.reset();
    const bool kept = core_.keep(whole, begun_);
    // Until the handoff's end; in the two-step flow until somebody fetches it or the lease ends. An
    // older one of that key is not what is sent from here.
    if (own()) {
      chunk.slot.reset();
    } else if (kept || !machine_) {
      if (std::optional<HostTier::Pin> pin = core_.tier->pin(chunk.id))
        pins_.push_back(std::move(*pin));
    }
  }
  if (machine_ && !end_) machine_->segment_ready(now(), segment_index(job.chunk, job.layer));
  gather_next();
  pump();
  settle();
}

// What is not gathered is neither sent nor kept; and what is computed from now on would fare no
// better.
void Sending::gather_failed(const Status& why) {
  aborted_ = true;
  gather_queue_.clear();
  if (!end_) abort(End::kFailed, why);
  settle();
}

}  // namespace baton
