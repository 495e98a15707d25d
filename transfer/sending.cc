#include "transfer/sending.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "transfer/base/log.h"

namespace baton {

using protocol::Effects;
using protocol::End;

Sending::Sending(NodeCore& core, SendRequest request, std::shared_ptr<SendFeed> feed,
                 std::function<void()> on_released, OnGone on_gone)
    : core_(core),
      group_(core.config.store ? protocol::GroupOffer{} : core.group()),
      chunk_tokens_(core.config.chunk_tokens),
      request_(std::move(request)),
      feed_(std::move(feed)),
      on_released_(std::move(on_released)),
      on_gone_(std::move(on_gone)),
      timer_(core.io),
      begun_(core.tiers->forgotten()),
      ready_chunks_(layers(), 0),
      created_at_(now()) {
  if (request_.with_peer)
    machine_.emplace(request_.handoff, core_.config.sender, request_.deadline);
  // Never grows beyond: a gather under way borrows its part of the table. An engine may have one
  // block more than the prompt needs, for what it generates.
  if (feed_) blocks_.reserve(request_.tokens / core_.config.kv.layout.block_tokens + 2);
  make_chunks();
}

void Sending::make_chunks() {
  chunks_.resize(request_.keys.size());
  for (size_t i = 0; i < chunks_.size(); ++i) {
    ChunkWork& chunk = chunks_[i];
    chunk.id = {request_.keys[i], 0, 0};
    chunk.tokens =
        std::min(chunk_tokens_, request_.tokens - static_cast<uint32_t>(i) * chunk_tokens_);
    chunk.segment_bytes = segment_bytes(core_.config.kv.layout, chunk.tokens);
  }
}

Sending::Sending(NodeCore& core, SendRequest request, OnGone on_gone)
    : Sending(core, std::move(request), nullptr, nullptr, std::move(on_gone)) {
  session_over_ = true;
}

void Sending::hold(std::vector<HostTier::Pin> chunks) {
  if (end_ || gone_) return;
  if (chunks.empty())
    return abort(End::kFailed, Status(Code::kNotFound, "the holder has none of the chunks"));
  pins_ = std::move(chunks);
  std::vector<Chunk> held;
  for (const HostTier::Pin& pin : pins_) held.push_back(pin.chunk());
  hold(held);
}

void Sending::hold(const std::vector<Chunk>& chunks) {
  if (end_ || gone_) return;
  // What a tier or a peer gave may lie in another order than this engine's blocks.
  group_.order = chunks.front().order;
  if (core_.config.store) take_shape(chunks.front());
  chunks_.resize(chunks.size());
  for (size_t i = 0; i < chunks_.size(); ++i) {
    const Chunk& held = chunks[i];
    request_.keys.push_back(held.id.key);
    request_.tokens += held.tokens;
    chunks_[i] = {.id = held.id,
                  .tokens = held.tokens,
                  .segment_bytes = held.segment_bytes,
                  .decided = true,
                  .whole = true,
                  .slot = held.slot,
                  .checksums = held.checksums};
  }
  offer();
}

void Sending::loads(std::shared_ptr<TierLoad> load) {
  if (end_) return load->cancel();
  load_ = std::move(load);
}

// What a store offers is of the asking node's model: how many tokens a chunk of it has, and an
// opaque block, the node has said itself.
void Sending::take_shape(const Chunk& chunk) {
  const protocol::Hello& peer = link_->hello();
  const bool opaque = chunk.order == PayloadOrder::kOpaque;
  // Another store has no blocks of its own: to it a chunk is one.
  const bool blocks = opaque && peer.opaque_block_tokens != 0;
  chunk_tokens_ = std::max(peer.chunk_tokens, chunk.tokens);
  group_ = {
      .kv_group = chunk.id.kv_group,
      .head_group = chunk.id.head_group,
      .layers = static_cast<uint16_t>(chunk.checksums.size()),
      .order = chunk.order,
      .token_bytes = static_cast<uint32_t>(
          blocks ? peer.opaque_block_bytes
                 : (opaque ? chunk.segment_bytes : chunk.segment_bytes / chunk.tokens)),
      .opaque_block_tokens = blocks ? peer.opaque_block_tokens : (opaque ? chunk_tokens_ : 0)};
}

void Sending::start() {
  if (machine_) {
    Effects effects;
    machine_->queued(now(), effects);
    apply(std::move(effects));
  }
  on_feed();
}

void Sending::connected(Result<std::shared_ptr<PeerLink>> link) {
  if (end_ || gone_) {
    // It was called off before the peer heard of it; the peer's decoder may wait for it, though.
    if (link.ok())
      for (const protocol::Message& message : outbox_) (*link)->send(message);
    outbox_.clear();
    return;
  }
  if (!link.ok()) return abort(End::kFailed, link.status());
  link_ = std::move(link).value();
  for (const protocol::Message& message : outbox_) link_->send(message);
  outbox_.clear();
  link_->add(shared_from_this());
  link_->pump();
}

void Sending::on_message(const protocol::Message& message) {
  if (!machine_) return;
  Effects effects;
  machine_->on_message(now(), message, effects);
  if (busy_since_ != TimePoint{} && machine_->unacknowledged_bytes() == 0) {
    busy_ += now() - busy_since_;
    busy_since_ = {};
  }
  apply(std::move(effects));
  if (link_) link_->pump();
  settle();
}

void Sending::peer_lost(const Status& why) {
  if (!machine_) return;
  Effects effects;
  machine_->peer_lost(now(), why, effects);
  apply(std::move(effects));
  settle();
}

void Sending::abort(End end, Status why) {
  if (!machine_) {
    if (!end_) ended(end, why);
  } else {
    Effects effects;
    machine_->abort(now(), end, std::move(why), effects);
    apply(std::move(effects));
  }
  settle();
}

void Sending::end_lease() {
  fetched_ = true;
  settle();
}

void Sending::shutdown(const Status& why) {
  session_over_ = aborted_ = true;
  gather_queue_.clear();
  if (end_) return settle();
  abort(End::kFailed, why);
}

void Sending::apply(Effects effects) {
  for (protocol::Message& message : effects.messages) {
    if (auto* sent = std::get_if<protocol::Sent>(&message); sent != nullptr && sent->all) {
      sent->compute_us = static_cast<uint64_t>(
          std::chrono::duration_cast<std::chrono::microseconds>(compute_).count());
      sent->goodput = link_ ? static_cast<uint64_t>(link_->best_goodput()) : 0;
    }
    if (link_) {
      link_->send(message);
    } else {
      outbox_.push_back(std::move(message));
    }
  }
  quiet_ = quiet_ || effects.quiet;
  if (effects.end) ended(*effects.end, effects.why);
  report();
  arm_timer();
}

// What became ready goes, or its deadline runs.
void Sending::pump() {
  if (link_) link_->pump();
  arm_timer();
}

void Sending::ended(End end, const Status& why) {
  end_ = end;
  why_ = why;
  // What is retained goes on being gathered: it serves a retry that FETCHes it.
  if (!machine_) quiet_ = true;
  if (load_) std::exchange(load_, nullptr)->cancel();
  const TimePoint at = now();
  core_.registry.bury(role(), request_.handoff, end, at);
  if (!machine_) return;  // a holder: what is fetched is a handoff of its own
  const uint64_t bytes = machine_->acknowledged_bytes();
  core_.node_metrics.handoff_ended(end, transport_, bytes);
  core_.node_metrics.stage(NodeMetrics::Stage::kGather, to_seconds(gather_time_));
  if (offered_ && feed_)
    core_.node_metrics.stage(NodeMetrics::Stage::kWaitCompute, to_seconds(compute_));
  if (offered_) core_.node_metrics.stage(NodeMetrics::Stage::kSend, to_seconds(at - offered_at_));
  if (link_) {
    if (end == End::kCommitted) link_->measured(bytes, busy_);
    link_->forget(request_.handoff);
  }
  if (end == End::kCommitted)
    log::info("handoff sent handoff={} bytes={} transport={} ms={:.1f}",
              request_.handoff.to_string(), bytes, transport_, to_ms(at - created_at_));
  else
    log::warn("handoff ended on the sender's side handoff={} end={} why=\"{}\"",
              request_.handoff.to_string(), protocol::end_name(end), why.message());
}

bool Sending::needs_blocks() const {
  if (reads_blocks()) return true;
  if (!gather_queue_.empty()) return true;
  if (end_ || !machine_) return false;
  // A transient chunk may be asked for again until the end.
  return std::any_of(chunks_.begin(), chunks_.end(),
                     [](const ChunkWork& chunk) { return !chunk.whole && chunk.computed != 0; });
}

// Tells the engine that its blocks are free, and the node that nothing is left to do.
void Sending::settle() {
  if (gone_ || !session_over_) return;
  if (!retaining())
    for (auto& then : std::exchange(when_retained_, {})) boost::asio::post(core_.io, then);
  if (on_released_ && !needs_blocks()) std::exchange(on_released_, nullptr)();
  if (on_released_) return;
  if (!machine_ && !end_) {
    // Two-step flow: the chunks are in the tier; the lease keeps them there.
    if (!lease_until_) lease_until_ = now() + request_.lease;
    arm_timer();
    if (fetched_ || request_.lease == Duration::zero()) {
      ended(End::kCommitted, {});
    } else if (now() >= *lease_until_) {
      ended(End::kExpired, Status(Code::kDeadlineExceeded, "the lease of the held chunks is over"));
    } else {
      return;
    }
  }
  if (!end_ || !quiet_ || reads_blocks()) return;
  gone_ = true;
  core_.registry.release(role(), request_.handoff);
  timer_.cancel();
  HostTier::release(pins_);
  if (link_) link_->remove(*this);
  report();
  on_gone_(*this);
}

void Sending::arm_timer() {
  std::optional<TimePoint> at;
  if (machine_) at = machine_->next_deadline();
  if (lease_until_ && !end_) at = lease_until_;
  if (!at) {
    timer_.cancel();
    return;
  }
  timer_.expires_at(std::chrono::time_point_cast<std::chrono::steady_clock::duration>(*at));
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->gone_) return;
    if (self->machine_) {
      Effects effects;
      self->machine_->advance(now(), effects);
      self->apply(std::move(effects));
    }
    self->settle();
  });
}

void Sending::report() {
  if (!feed_) return;
  HandoffReport report;
  report.end = end_;
  report.why = why_;
  report.transport = transport_;
  report.tokens = request_.tokens;
  if (machine_) report.bytes = machine_->acknowledged_bytes();
  if (offered_) report.first_offer = offered_at_ - created_at_;
  report.total = now() - created_at_;
  feed_->set_report(std::move(report));
}

}  // namespace baton
