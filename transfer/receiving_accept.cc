// Accepting an offer: what the host tier holds is copied and verified first, the rest is asked for.
#include <algorithm>

#include "transfer/base/log.h"
#include "transfer/receiving.h"

namespace baton {

using protocol::Effects;

void Receiving::begin_accept() {
  accepting_ = true;
  const KvMemory& kv = core_.config.kv;
  const uint64_t room = uint64_t{blocks_.size()} * kv.layout.block_tokens;
  const uint32_t offered = machine_.segments().tokens();
  const bool valid = std::all_of(blocks_.begin(), blocks_.end(),
                                 [&](uint32_t block) { return block < kv.blocks; });
  if (room < offered || !valid) {
    Effects effects;
    machine_.refuse(now(), protocol::RefuseReason::kNoRoom,
                    "the engine's block table has room for " + std::to_string(room) +
                        " tokens, the offer has " + std::to_string(offered) +
                        (valid ? "" : "; it names a block beyond the cache"),
                    effects);
    return apply(std::move(effects));
  }
  publish_state(LoadState::kLoading, 0, {});
  const uint32_t chunks = machine_.segments().chunks();
  held_chunks_.assign(chunks, false);
  for (uint32_t c = 0; c < chunks; ++c) {
    if (machine_.segments().first_token_of_chunk(c) + machine_.segments().tokens_of_chunk(c) <=
        held_tokens_)
      continue;
    // What this node offered itself was looked for already.
    if (std::optional<HostTier::Pin> pin =
            own_ ? core_.tier->pin(chunk_id(c)) : core_.tier->find(chunk_id(c));
        pin && pin->chunk().tokens == machine_.segments().tokens_of_chunk(c))
      local_loads_.push_back({std::move(*pin), c, 0});
  }
  load_next();
}

void Receiving::load_next() {
  if (end_) local_loads_.clear();
  if (local_loads_.empty()) {
    if (!end_) accept();
    return settle();
  }
  auto load = std::make_shared<LocalLoad>(std::move(local_loads_.front()));
  local_loads_.pop_front();
  const Chunk& chunk = load->pin.chunk();
  ++local_copies_;
  core_.copier->scatter(target({0, load->chunk, static_cast<uint16_t>(load->layer)}), chunk.order,
                        seed_of(chunk.id, load->layer, chunk.segment_bytes),
                        chunk.slot.bytes().data() + load->layer * chunk.segment_bytes,
                        first_wanted_token(load->chunk),
                        [self = shared_from_this(), load](const Result<Checksum>& checksum) {
                          --self->local_copies_;
                          self->loaded(std::move(*load), checksum);
                        });
}

void Receiving::loaded(LocalLoad load, const Result<Checksum>& checksum) {
  const Chunk& chunk = load.pin.chunk();
  if (!checksum.ok()) {
    local_loads_.clear();
    if (!end_) fail(checksum.status());
    return settle();
  }
  core_.node_metrics.copied(NodeMetrics::Copy::kTierLoad, chunk.segment_bytes);
  if (*checksum != chunk.checksums[load.layer]) {
    // A miss: the chunk leaves the tier and comes from the sender instead.
    core_.node_metrics.checksum_failure("host");
    log::error("a chunk of the host tier does not verify chunk={} layer={}", chunk.id.key.to_hex(),
               load.layer);
    core_.tier->erase(chunk.id, chunk.slot.id());
    spoilt_ = true;
  } else if (++load.layer == layers()) {
    held_chunks_[load.chunk] = true;
    pins_.push_back(std::move(load.pin));
  } else {
    local_loads_.push_front(std::move(load));
  }
  load_next();
}

void Receiving::accept() {
  Effects effects;
  const TimePoint at = now();
  core_.node_metrics.stage(NodeMetrics::Stage::kOffer, to_seconds(at - offered_at_));
  machine_.accept(at,
                  {.held_tokens = held_tokens_,
                   .held_chunks = held_chunks_,
                   .window_bytes = core_.config.window_bytes},
                  effects);
  for (uint16_t l = 0; l < layers(); ++l) {
    if (!machine_.layer_complete(l)) continue;
    layer_told_[l] = true;
    feed_->layer_complete(l);
  }
  apply(std::move(effects));
  if (own_ && !end_) load_from_below();
}

// What is offered and the host tier has not, or has no more: the tiers below send it.
void Receiving::load_from_below() {
  HostTier::release(pins_);  // copied: what is read may have their slots
  const protocol::SegmentMap& map = machine_.segments();
  std::vector<TierLoad::Wanted> wanted;
  for (uint32_t c = 0; c < map.chunks(); ++c) {
    const uint32_t first = map.index({0, c, 0});
    if (machine_.present(first)) continue;
    TierLoad::Wanted chunk{
        c,        chunk_id(c),      map.tokens_of_chunk(c),
        layers(), map.bytes(first), core_.tiers->holders(chunk_id(c), Tiers::Reach::kAll)};
    if (chunk.holders.empty())
      return fail(spoilt_ ? Status(Code::kChecksum,
                                   "a chunk of the host tier does not verify, and "
                                   "no other tier has it")
                          : Status(Code::kNotFound,
                                   "no tier has chunk " + chunk.id.key.to_hex() + " any more"));
    wanted.push_back(std::move(chunk));
  }
  const TimePoint deadline = std::min(request_.deadline, now() + core_.config.tiers.load_deadline);
  load_ = TierLoad::start(
      core_, {core_.fingerprint, request_.tenant}, std::move(wanted), deadline,
      [this](uint32_t chunk, const Chunk& what, uint32_t layer, ReceivedBytes bytes) {
        came_from_below(chunk, what, layer, std::move(bytes));
      },
      [this](const Status& status) {
        if (!status.ok() && !end_) fail(status);
      });
}

void Receiving::came_from_below(uint32_t chunk, const Chunk& what, uint32_t layer,
                                ReceivedBytes bytes) {
  const uint32_t segment = machine_.segments().index({0, chunk, static_cast<uint16_t>(layer)});
  const SegmentHeader header{machine_.handoff(), segment, what.segment_bytes,
                             what.checksums[layer]};
  if (wanted(header)) scatter(header, what.order, std::move(bytes), NodeMetrics::Copy::kTierLoad);
}

KvSegment Receiving::target(const protocol::SegmentId& id) const {
  return core_.segment(id.layer, blocks_, machine_.segments().first_token_of_chunk(id.chunk),
                       machine_.segments().tokens_of_chunk(id.chunk));
}

// Tokens before it are the engine's own already: verified, not written.
uint32_t Receiving::first_wanted_token(uint32_t chunk) const {
  const uint32_t first = machine_.segments().first_token_of_chunk(chunk);
  if (held_tokens_ <= first) return 0;
  uint32_t wanted = std::min(held_tokens_ - first, machine_.segments().tokens_of_chunk(chunk));
  // An opaque block is written whole.
  if (core_.config.kv.layout.opaque_block_bytes != 0)
    wanted -= wanted % core_.config.kv.layout.block_tokens;
  return wanted;
}

}  // namespace baton
