#include "transfer/receiving.h"

#include <algorithm>

#include "scheduler/share_of_bound.h"
#include "transfer/base/log.h"

namespace baton {

using protocol::Effects;
using protocol::End;

Receiving::Receiving(NodeCore& core, HandoffAttempt handoff, OnGone on_gone)
    : core_(core),
      on_gone_(std::move(on_gone)),
      machine_(handoff, core.config.receiver, now()),
      timer_(core.io),
      begun_(core.tiers->forgotten()),
      layer_told_(layers(), false),
      created_at_(now()) {}

void Receiving::claim(ReceiveRequest request, std::shared_ptr<ReceiveFeed> feed,
                      std::function<void()> on_released) {
  request_ = std::move(request);
  feed_ = std::move(feed);
  on_released_ = std::move(on_released);
  Effects effects;
  machine_.begin(now(),
                 {.flow = request_.flow,
                  .tokens = request_.tokens,
                  .chunk_tokens = core_.config.chunk_tokens,
                  .tenant = request_.tenant,
                  .keys = request_.keys,
                  .groups = {core_.group()},
                  .deadline = request_.deadline,
                  .from = request_.from},
                 effects);
  apply(std::move(effects));
  on_feed();
}

void Receiving::connected(Result<std::shared_ptr<PeerLink>> link) {
  if (end_) return;
  if (!link.ok()) {
    fail(link.status());
    return;
  }
  link_ = std::move(link).value();
  for (const protocol::Message& message : outbox_) link_->send(message);
  outbox_.clear();
}

void Receiving::offer_held(std::vector<Tiers::Held> chunks) {
  if (end_) return;
  own_ = true;
  transport_ = "host";
  outbox_.clear();
  Effects effects;
  if (chunks.empty()) {
    machine_.on_message(now(), protocol::Miss{machine_.handoff()}, effects);
  } else {
    const uint64_t covered = uint64_t{chunks.size()} * core_.config.chunk_tokens;
    protocol::Offer offer{
        .handoff = machine_.handoff(),
        .tokens = static_cast<uint32_t>(std::min<uint64_t>(covered, request_.tokens)),
        .chunk_tokens = core_.config.chunk_tokens,
        .retained = true,
        .groups = {core_.group()}};
    for (Tiers::Held& held : chunks) {
      offer.keys.push_back(held.id.key);
      if (held.pin) {
        pins_.push_back(std::move(held.pin));
      } else {
        transport_ = held.holders.front()->name();
      }
    }
    machine_.on_message(now(), std::move(offer), effects);
  }
  apply(std::move(effects));
  on_feed();
}

void Receiving::on_feed() {
  if (!feed_ || gone_) return;
  const ReceiveFeed::Update update = feed_->drain();
  if (update.aborted && !session_over_) {
    session_over_ = true;
    abort(Status(Code::kCancelled, "the decoder's engine: " + *update.aborted));
  } else if (update.refused && accepting_) {
    abort(Status(Code::kCancelled, "the decoder's engine, after accepting: " + *update.refused));
  } else if (update.refused && !end_) {
    Effects effects;
    machine_.refuse(now(), protocol::RefuseReason::kNoRoom, *update.refused, effects);
    apply(std::move(effects));
  } else if (update.accepted && !accepting_ && !end_) {
    blocks_ = update.blocks;
    held_tokens_ = update.held_tokens;
    begin_accept();
  }
  settle();
}

void Receiving::on_message(const std::shared_ptr<PeerLink>& link,
                           const protocol::Message& message) {
  if (!link_) link_ = link;
  if (contacted_at_ == TimePoint{}) contacted_at_ = now();
  if (const auto* sent = std::get_if<protocol::Sent>(&message); sent != nullptr && sent->all) {
    compute_us_ = sent->compute_us;
    goodput_ = sent->goodput;
  }
  if (std::holds_alternative<protocol::Offer>(message) && offer_came_at_ == TimePoint{})
    offer_came_at_ = now();
  Effects effects;
  machine_.on_message(now(), message, effects);
  apply(std::move(effects));
  settle();
}

void Receiving::peer_lost(const Status& why) {
  Effects effects;
  machine_.peer_lost(now(), why, effects);
  apply(std::move(effects));
  settle();
}

void Receiving::fail(Status why) {
  Effects effects;
  machine_.fail(now(), std::move(why), effects);
  apply(std::move(effects));
  settle();
}

void Receiving::abort(Status why) {
  Effects effects;
  machine_.abort(now(), std::move(why), effects);
  apply(std::move(effects));
  settle();
}

void Receiving::shutdown(const Status& why) {
  session_over_ = true;
  if (end_) return settle();
  fail(why);
}

void Receiving::apply(Effects effects) {
  for (protocol::Message& message : effects.messages) {
    if (link_) {
      link_->send(message);
    } else if (!own_) {
      outbox_.push_back(std::move(message));
    }
  }
  if (effects.offered) {
    offered_at_ = now();
    if (contacted_at_ != TimePoint{})
      core_.node_metrics.stage(NodeMetrics::Stage::kQueued,
                               to_seconds(offered_at_ - contacted_at_));
    publish_state(LoadState::kOffered, machine_.segments().tokens(), {});
  }
  quiet_ = quiet_ || effects.quiet;
  if (effects.end) ended(*effects.end, effects.why);
  arm_timer();
}

void Receiving::ended(End end, const Status& why) {
  end_ = end;
  why_ = why;
  ended_at_ = now();
  local_loads_.clear();
  if (load_) std::exchange(load_, nullptr)->cancel();
  // The engine waits for its blocks: nothing more is received into them.
  if (link_ && end != End::kCommitted) link_->forget(machine_.handoff());
  core_.registry.bury(HandoffRole::kReceiver, machine_.handoff(), end, ended_at_);
  core_.node_metrics.handoff_ended(end, transport_, machine_.verified_bytes());
  core_.node_metrics.stage(NodeMetrics::Stage::kVerifyScatter, to_seconds(copy_time_));
  if (end == End::kCommitted)
    log::info("handoff received handoff={} bytes={} transport={} ms={:.1f}",
              machine_.handoff().to_string(), machine_.verified_bytes(), transport_,
              to_ms(ended_at_ - created_at_));
  else
    // That the tiers have nothing of a prompt is no trouble.
    log::log(own_ && end == End::kRefused ? log::Level::kDebug : log::Level::kWarn,
             "handoff ended on the receiver's side handoff={} end={} why=\"{}\"",
             machine_.handoff().to_string(), protocol::end_name(end), why.message());
}

// Leading tokens whose KV is verified in the engine's blocks in all layers.
uint32_t Receiving::leading_tokens() const {
  if (!accepting_ || machine_.offer() == nullptr) return 0;
  const protocol::SegmentMap& map = machine_.segments();
  if (end_ == End::kCommitted) return map.tokens();
  uint32_t tokens = 0;
  for (uint32_t c = 0; c < map.chunks(); ++c) {
    const uint32_t end = map.first_token_of_chunk(c) + map.tokens_of_chunk(c);
    bool whole = end <= held_tokens_ || (c < held_chunks_.size() && held_chunks_[c]);
    for (uint16_t l = 0; !whole && l < layers(); ++l) {
      if (!machine_.verified(map.index({0, c, l}))) return tokens;
      if (l + 1u == layers()) whole = true;
    }
    tokens = end;
  }
  return tokens;
}

std::optional<double> Receiving::share_of_bound() const {
  if (end_ != End::kCommitted) return std::nullopt;
  return scheduler::share_of_bound({.compute_s = static_cast<double>(compute_us_) * 1e-6,
                                    .taken_s = to_seconds(ended_at_ - offer_came_at_),
                                    .bytes = machine_.verified_bytes(),
                                    .goodput = static_cast<double>(goodput_),
                                    .layers = layers()});
}

void Receiving::settle() {
  if (gone_ || !end_ || !quiet_ || local_copies_ != 0) return;
  if (!settled_ && feed_) {
    settled_ = true;
    HostTier::release(pins_);
    retains_.clear();
    const uint32_t tokens = leading_tokens();
    if (tokens != 0) {
      publish_state(LoadState::kLoaded, tokens, why_);
    } else {
      publish_state(LoadState::kFailed, 0,
                    why_.ok() ? Status(Code::kNotFound, "nothing was loaded") : why_);
    }
  }
  if (feed_ && !session_over_) return;
  gone_ = true;
  if (claimed()) core_.registry.release(HandoffRole::kReceiver, machine_.handoff());
  timer_.cancel();
  if (on_released_) std::exchange(on_released_, nullptr)();
  on_gone_(*this);
}

void Receiving::publish_state(LoadState state, uint32_t tokens, Status why) {
  if (feed_) feed_->set_state(state, tokens, std::move(why), report());
}

HandoffReport Receiving::report() const {
  HandoffReport report;
  report.end = end_;
  report.why = why_;
  report.transport = transport_;
  report.bytes = machine_.verified_bytes();
  report.tokens = end_ ? leading_tokens() : 0;
  // A chunk that the host tier holds whole may be the engine's in part: it counts once.
  for (uint32_t c = 0; c < held_chunks_.size(); ++c) {
    const protocol::SegmentMap& map = machine_.segments();
    const uint32_t before = std::min(held_tokens_, map.first_token_of_chunk(c));
    const uint32_t tokens = map.tokens_of_chunk(c);
    report.held_tokens += held_chunks_[c] ? tokens : std::min(held_tokens_ - before, tokens);
  }
  if (offered_at_ != TimePoint{}) {
    report.first_offer = offered_at_ - created_at_;
    report.share_of_bound = share_of_bound();
  }
  report.total = (end_ ? ended_at_ : now()) - created_at_;
  return report;
}

void Receiving::arm_timer() {
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
