#include "transfer/keeping.h"

#include <utility>

#include "transfer/base/log.h"

namespace baton {
namespace {

using protocol::Effects;
using protocol::End;
using protocol::RefuseReason;

// A segment in a slot: its payload, as one block.
constexpr uint32_t kOneBlock[] = {0};
// Of one offer: nodes give chunks one by one, and each that is accepted takes a slot before a byte
// of it has come.
constexpr uint32_t kMostChunks = 16;

}  // namespace

Keeping::Keeping(NodeCore& core, HandoffAttempt handoff, OnGone on_gone)
    : core_(core),
      on_gone_(std::move(on_gone)),
      machine_(handoff, core.config.receiver, now()),
      timer_(core.io),
      begun_(core.tiers->forgotten()) {}

void Keeping::fetch(Wanted wanted) {
  wanted_ = std::move(wanted);
  held_ = std::move(wanted_->held);
  fetches_ = true;
  const TierReadRequest& what = wanted_->what;
  origin_ = what.origin;
  Effects effects;
  machine_.begin(now(),
                 {.flow = protocol::Flow::kFetch,
                  .tokens = what.tokens,
                  .chunk_tokens = core_.config.chunk_tokens,
                  .tenant = what.origin.tenant,
                  .keys = {what.id.key},
                  .groups = {core_.group()},
                  .deadline = what.deadline},
                 effects);
  apply(std::move(effects));
}

void Keeping::connected(Result<std::shared_ptr<PeerLink>> link) {
  if (end_) return;
  if (!link.ok()) return fail(link.status());
  link_ = std::move(link).value();
  for (const protocol::Message& message : outbox_) link_->send(message);
  outbox_.clear();
}

void Keeping::end() {
  wanted_.reset();
  if (end_) return;
  Effects effects;
  machine_.abort(now(), Status(Code::kCancelled, "nobody reads it any more"), effects);
  apply(std::move(effects));
  settle();
}

void Keeping::on_message(const std::shared_ptr<PeerLink>& link, const protocol::Message& message) {
  const auto self = shared_from_this();
  if (!link_) link_ = link;
  Effects effects;
  machine_.on_message(now(), message, effects);
  const auto* offer = std::get_if<protocol::Offer>(&message);
  if (offer != nullptr && !machine_.claimed() &&
      machine_.state() == protocol::ReceiverHandoff::State::kOffered) {
    origin_ = {link->fingerprint(), offer->tenant};
    machine_.begin(now(), expectation_of(*offer), effects);
  }
  apply(std::move(effects));
  settle();
}

// A store has no prompt of its own: whatever is consistent in itself is kept.
protocol::Expectation Keeping::expectation_of(const protocol::Offer& offer) const {
  return {.flow = protocol::Flow::kPush,
          .tokens = offer.tokens,
          .chunk_tokens = offer.chunk_tokens,
          .keys = offer.keys,
          .groups = offer.groups,
          .deadline = now() + core_.config.tiers.keep_deadline};
}

void Keeping::accept() {
  const protocol::SegmentMap& map = machine_.segments();
  Effects effects;
  std::vector<bool> held(map.chunks(), false);
  const auto refuse = [&](const std::string& why) {
    machine_.refuse(now(), RefuseReason::kNoRoom, why, effects);
    apply(std::move(effects));
  };
  if (machine_.offer()->groups.size() != 1)
    return refuse("the offer has " + std::to_string(machine_.offer()->groups.size()) +
                  " groups: chunks of one are kept");
  if (map.chunks() > kMostChunks)
    return refuse("the offer has " + std::to_string(map.chunks()) + " chunks: at most " +
                  std::to_string(kMostChunks) + " are kept at a time");
  for (uint32_t c = 0; c < map.chunks(); ++c) {
    const protocol::GroupOffer& group = machine_.offer()->groups.front();
    const ChunkId id{machine_.offer()->keys[c], group.kv_group, group.head_group};
    if (!fetches_) {
      if (std::optional<HostTier::Pin> pin = core_.tier->pin(id)) {
        pins_.push_back(std::move(*pin));
        held[c] = true;
        continue;
      }
    }
    if (const Status status = prepare(c); !status.ok()) return refuse(status.message());
  }
  machine_.accept(
      now(), {.held_chunks = std::move(held), .window_bytes = core_.config.window_bytes}, effects);
  apply(std::move(effects));
}

Status Keeping::prepare(uint32_t c) {
  const protocol::SegmentMap& map = machine_.segments();
  const protocol::GroupOffer& group = machine_.offer()->groups.front();
  Coming coming;
  Chunk& chunk = coming.chunk;
  chunk.id = {machine_.offer()->keys[c], group.kv_group, group.head_group};
  chunk.tokens = map.tokens_of_chunk(c);
  chunk.order = group.order;
  chunk.segment_bytes = map.bytes(map.index({0, c, 0}));
  chunk.checksums.resize(group.layers);
  chunk.origin = origin_;
  const uint64_t bytes = chunk.segment_bytes * group.layers;
  const size_t room = fetches_ ? wanted_->what.into.bytes().size()
                               : (core_.retained ? core_.retained->slot_bytes() : 0);
  // Before another chunk leaves for it.
  if (bytes > room)
    return Status(Code::kResourceExhausted, "the chunk has " + std::to_string(bytes) +
                                                " bytes, a slot has " + std::to_string(room));
  if (fetches_) {
    chunk.slot = wanted_->what.into;
  } else {
    std::optional<NodeCore::RetainedSlot> slot = core_.retained_slot(origin_.tenant);
    if (!slot) return Status(Code::kResourceExhausted, "no slot is free");
    chunk.slot = std::move(slot->slot);
    coming.reservation = std::move(slot->reservation);
  }
  coming_.emplace(c, std::move(coming));
  return ok_status();
}

KvSegment Keeping::target(const protocol::SegmentId& id) {
  const Chunk& chunk = coming_.at(id.chunk).chunk;
  KvLayout layout;
  layout.block_tokens = chunk.tokens;
  layout.opaque_block_bytes = chunk.segment_bytes;
  layout.block_stride = static_cast<int64_t>(chunk.segment_bytes);
  return {chunk.slot.bytes().data() + id.layer * chunk.segment_bytes, layout, kOneBlock,
          chunk.tokens};
}

bool Keeping::wanted(const SegmentHeader& header) {
  using Arrival = protocol::ReceiverHandoff::Arrival;
  const Arrival arrival = machine_.on_segment(now(), header.segment, header.bytes);
  if (arrival == Arrival::kDuplicate) core_.node_metrics.segment_dropped("duplicate");
  if (arrival == Arrival::kUnwanted) core_.node_metrics.segment_dropped("unwanted");
  if (arrival != Arrival::kCopy) return false;
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  const SlotRef& slot = coming_.at(id.chunk).chunk.slot;
  writers_[header.segment] = slot.pool()->add_writer(slot);
  return true;
}

std::variant<ChannelEvents::Otherwise, SegmentPlace> Keeping::place(const SegmentHeader& header) {
  if (!wanted(header)) return ChannelEvents::Otherwise::kDrop;
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  return SegmentPlace{target(id), PayloadOrder::kOpaque,
                      seed_of(coming_.at(id.chunk).chunk.id, id.layer, header.bytes)};
}

void Keeping::on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) {
  if (checksum.ok())
    core_.node_metrics.copied(NodeMetrics::Copy::kReceivedIntoBlocks, header.bytes);
  came(header, checksum);
}

void Keeping::on_segment(const SegmentHeader& header, ReceivedBytes payload) {
  if (header.bytes != payload.bytes().size()) return core_.node_metrics.segment_dropped("size");
  if (!wanted(header)) return;
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  auto bytes = std::make_shared<ReceivedBytes>(std::move(payload));
  core_.slot_copier->scatter(
      target(id), PayloadOrder::kOpaque,
      seed_of(coming_.at(id.chunk).chunk.id, id.layer, header.bytes), bytes->bytes().data(), 0,
      [self = shared_from_this(), header, bytes](const Result<Checksum>& checksum) {
        bytes->reset();
        if (checksum.ok()) self->core_.node_metrics.copied(NodeMetrics::Copy::kKept, header.bytes);
        self->came(header, checksum);
      });
}

// Nothing writes for this segment any more.
void Keeping::came(const SegmentHeader& header, const Result<Checksum>& checksum) {
  const auto self = shared_from_this();
  writers_.erase(header.segment);
  const bool verified = checksum.ok() && *checksum == header.checksum;
  const protocol::SegmentId id = machine_.segments().id(header.segment);
  if (checksum.ok() && !verified) {
    core_.node_metrics.checksum_failure("handoff");
    log::warn("a segment does not verify handoff={} chunk={} layer={}",
              machine_.handoff().to_string(), id.chunk, id.layer);
  }
  if (const auto found = coming_.find(id.chunk); verified && !end_ && found != coming_.end()) {
    Coming& coming = found->second;
    coming.chunk.checksums[id.layer] = header.checksum;
    if (++coming.layers == coming.chunk.checksums.size()) {
      if (fetches_) {
        fetched_ = coming.chunk;
      } else {
        coming.reservation.reset();
        core_.keep(coming.chunk, begun_);
      }
    }
    if (wanted_ && wanted_->on_layer) wanted_->on_layer(coming.chunk, id.layer);
  }
  Effects effects;
  machine_.copy_done(now(), header.segment, verified, effects);
  apply(std::move(effects));
  settle();
}

void Keeping::peer_lost(const Status& why) {
  Effects effects;
  machine_.peer_lost(now(), why, effects);
  apply(std::move(effects));
  settle();
}

void Keeping::fail(Status why) {
  Effects effects;
  machine_.fail(now(), std::move(why), effects);
  apply(std::move(effects));
  settle();
}

void Keeping::apply(Effects effects) {
  for (protocol::Message& message : effects.messages) {
    if (link_) {
      link_->send(message);
    } else {
      outbox_.push_back(std::move(message));
    }
  }
  quiet_ = quiet_ || effects.quiet;
  if (effects.end) ended(*effects.end, effects.why);
  arm_timer();
  if (effects.offered && !end_) accept();
}

void Keeping::ended(End end, const Status& why) {
  end_ = end;
  // What is still being received lands nowhere any more when this returns.
  if (link_ && end != End::kCommitted) link_->forget(machine_.handoff());
  core_.registry.bury(HandoffRole::kReceiver, machine_.handoff(), end, now());
  core_.node_metrics.handoff_ended(
      end, link_ && link_->channel() ? std::string(link_->channel()->transport()) : "",
      machine_.verified_bytes());
  if (end != End::kCommitted)
    log::debug("handoff not kept handoff={} end={} why=\"{}\"", machine_.handoff().to_string(),
               protocol::end_name(end), why.message());
  if (std::optional<Wanted> wanted = std::exchange(wanted_, std::nullopt))
    wanted->done(end == End::kCommitted ? Result<Chunk>(std::move(*fetched_)) : Result<Chunk>(why));
}

void Keeping::settle() {
  if (gone_ || !end_ || !quiet_ || !writers_.empty()) return;
  gone_ = true;
  timer_.cancel();
  HostTier::release(pins_);
  coming_.clear();
  held_.reset();
  if (fetches_) core_.registry.release(HandoffRole::kReceiver, machine_.handoff());
  on_gone_(*this);
}

void Keeping::arm_timer() {
  const std::optional<TimePoint> at = machine_.next_deadline();
  if (!at) {
    timer_.cancel();
    return;
  }
  timer_.expires_at(std::chrono::time_point_cast<std::chrono::steady_clock::duration>(*at));
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->gone_) return;
    Effects effects;
    self->machine_.advance(now(), effects);
    self->apply(std::move(effects));
    self->settle();
  });
}

}  // namespace baton
