// Who is connected, and which handoff a message or a segment belongs to.
#include "transfer/base/log.h"
#include "transfer/node_impl.h"

namespace baton {
namespace {

using protocol::RefuseReason;

// What comes later for an attempt that has ended is told how.
RefuseReason reason_of(protocol::End end) {
  return end == protocol::End::kCancelled ? RefuseReason::kCancelled : RefuseReason::kExpired;
}

}  // namespace

void Node::Impl::connect(const HostPort& peer,
                         std::function<void(Result<std::shared_ptr<PeerLink>>)> done) {
  control_->connect(
      peer, [this, done = std::move(done)](Result<std::shared_ptr<control::Peer>> connected) {
        if (!connected.ok()) return done(connected.status());
        const std::shared_ptr<PeerLink> link = link_of(**connected);
        if (!link) return done(Status(Code::kUnavailable, "the peer went away"));
        if (!link->usable())
          return done(
              Status(Code::kUnavailable, "node " + link->node() + " has missed its heartbeats"));
        done(link);
      });
}

std::shared_ptr<PeerLink> Node::Impl::link_of(control::Peer& peer) {
  const auto it = links_.find(&peer);
  return it == links_.end() ? nullptr : it->second;
}

void Node::Impl::on_up(const std::shared_ptr<control::Peer>& peer) {
  auto link = std::make_shared<PeerLink>(core_, peer, *this);
  links_[peer.get()] = link;
  if (sessions_) sessions_->begin(peer->hello().incarnation, peer->session_key());
  log::info("peer up node={}", link->node());
  link->open(*channels_);
}

void Node::Impl::on_stalled(control::Peer& peer) {
  const auto link = link_of(peer);
  if (!link) return;
  const Status why(Code::kUnavailable, "node " + link->node() + " has missed its heartbeats");
  // The connection stands: a peer that was only stopped hears, when it goes on, that this is over.
  for (const auto& sending : sendings_of(*link)) sending->abort(protocol::End::kFailed, why);
  for (const auto& receiving : receivings_of(*link)) receiving->fail(why);
}

void Node::Impl::on_resumed(control::Peer& peer) {
  log::info("peer resumed node={}", peer.hello().node);
}

void Node::Impl::on_down(control::Peer& peer, const Status& why) {
  const auto link = link_of(peer);
  if (!link) return;
  links_.erase(&peer);
  if (sessions_) sessions_->end(peer.hello().incarnation);
  log::info("peer down node={} why=\"{}\"", link->node(), why.message());
  const Status lost(Code::kUnavailable,
                    "the connection to node " + link->node() + " ended: " + why.message());
  for (const auto& sending : sendings_of(*link)) sending->peer_lost(lost);
  for (const auto& receiving : receivings_of(*link)) receiving->peer_lost(lost);
  link->down(why);
}

std::vector<std::shared_ptr<Sending>> Node::Impl::sendings_of(const PeerLink& link) const {
  std::vector<std::shared_ptr<Sending>> out;
  for (const auto& [handoff, sending] : sendings_)
    if (sending->link() == &link) out.push_back(sending);
  return out;
}

std::vector<std::shared_ptr<Receiving>> Node::Impl::receivings_of(const PeerLink& link) const {
  std::vector<std::shared_ptr<Receiving>> out;
  for (const auto& [handoff, receiving] : receivings_)
    if (receiving->link() == &link) out.push_back(receiving);
  return out;
}

// --- messages and segments

void Node::Impl::on_message(control::Peer& peer, protocol::Message message) {
  const std::shared_ptr<PeerLink> link = link_of(peer);
  const HandoffAttempt* named = protocol::handoff_of(message);
  if (!link || named == nullptr) return;
  const HandoffAttempt handoff = *named;
  if (const auto* fetch = std::get_if<protocol::Fetch>(&message)) return on_fetch(link, *fetch);
  if (const auto it = receivings_.find(handoff); it != receivings_.end()) {
    const std::shared_ptr<Receiving> receiving = it->second;
    if (receiving->link() == nullptr || receiving->link() == link.get())
      return receiving->on_message(link, message);
    if (std::holds_alternative<protocol::Queued>(message) ||
        std::holds_alternative<protocol::Offer>(message))
      return link->send(
          protocol::Refuse{handoff, RefuseReason::kDuplicate,
                           "node " + receiving->link()->node() + " sends this handoff already"});
  }
  if (std::holds_alternative<protocol::Queued>(message) ||
      std::holds_alternative<protocol::Offer>(message))
    return on_new_receiving(link, message, handoff);
  on_sender_message(link, message, handoff);
}

void Node::Impl::on_sender_message(const std::shared_ptr<PeerLink>& link,
                                   const protocol::Message& message,
                                   const HandoffAttempt& handoff) {
  if (const auto it = sendings_.find(handoff);
      it != sendings_.end() && it->second->link() == link.get())
    return std::shared_ptr(it->second)->on_message(message);
  if (!std::holds_alternative<protocol::Cancel>(message) &&
      !std::holds_alternative<protocol::Failed>(message))
    return;
  // Nothing of it is left here (or not yet: then what comes later finds a tombstone), so nothing
  // reads or writes.
  const TimePoint at = now();
  const bool others = sendings_.contains(handoff) || receivings_.contains(handoff);
  for (const HandoffRole role : {HandoffRole::kSender, HandoffRole::kReceiver})
    if (!others && !core_.registry.tombstone(role, handoff, at))
      core_.registry.bury(role, handoff, protocol::End::kCancelled, at);
  link->send(protocol::Drained{handoff});
}

void Node::Impl::on_new_receiving(const std::shared_ptr<PeerLink>& link,
                                  const protocol::Message& message, const HandoffAttempt& handoff) {
  if (const auto end = core_.registry.tombstone(HandoffRole::kReceiver, handoff, now()))
    return link->send(protocol::Refuse{
        handoff, reason_of(*end),
        std::string("this attempt has ended already: ") + protocol::end_name(*end)});
  if (stopping_)
    return link->send(protocol::Refuse{handoff, RefuseReason::kShutdown, "shutting down"});
  if (records_ >= core_.config.max_records)
    return link->send(
        protocol::Refuse{handoff, RefuseReason::kLimit,
                         std::to_string(records_) +
                             " offers wait for their request already, as many as this node keeps"});
  const KvMemory& kv = core_.config.kv;
  const uint64_t room = uint64_t{kv.blocks} * kv.layout.block_tokens;
  if (const auto* offer = std::get_if<protocol::Offer>(&message); offer && offer->tokens > room)
    return link->send(protocol::Refuse{handoff, RefuseReason::kLimit,
                                       "the offer has " + std::to_string(offer->tokens) +
                                           " tokens, this engine's cache has room for " +
                                           std::to_string(room)});
  ++records_;
  make_receiving(handoff)->on_message(link, message);
}

std::shared_ptr<Receiving> Node::Impl::make_receiving(const HandoffAttempt& handoff) {
  auto receiving = std::make_shared<Receiving>(core_, handoff, [this](Receiving& gone) {
    if (!gone.claimed()) --records_;
    receivings_.erase(gone.handoff());
    finish_stop_if_idle();
  });
  receivings_[handoff] = receiving;
  return receiving;
}

Sending::OnGone Node::Impl::sending_gone() {
  return [this](Sending& gone) {
    (gone.role() == HandoffRole::kSender ? sendings_ : holdings_).erase(gone.handoff());
    finish_stop_if_idle();
  };
}

std::shared_ptr<Sending> Node::Impl::retaining(const HandoffId& handoff) const {
  for (const auto* map : {&sendings_, &holdings_})
    for (const auto& [attempt, sending] : *map)
      if (attempt.id == handoff && sending->retaining()) return sending;
  return nullptr;
}

std::vector<HostTier::Pin> Node::Impl::held(const std::vector<ChunkKey>& keys) {
  const protocol::GroupOffer group = core_.group();
  std::vector<HostTier::Pin> pins;
  for (const ChunkKey& key : keys) {
    std::optional<HostTier::Pin> pin = core_.tier->find({key, group.kv_group, group.head_group});
    if (!pin || pin->chunk().order != group.order) break;
    const bool tail = pin->chunk().tokens < core_.config.chunk_tokens;
    pins.push_back(std::move(*pin));
    if (tail) break;
  }
  return pins;
}

std::vector<ChunkId> Node::Impl::ids_of(const std::vector<ChunkKey>& keys) const {
  const protocol::GroupOffer group = core_.group();
  std::vector<ChunkId> ids;
  ids.reserve(keys.size());
  for (const ChunkKey& key : keys) ids.push_back({key, group.kv_group, group.head_group});
  return ids;
}

TimePoint Node::Impl::find_deadline() const {
  const NodeConfig& config = core_.config;
  return now() + std::min(config.tiers.find_deadline, config.receiver.first_contact_deadline / 2);
}

void Node::Impl::offer_own(const std::shared_ptr<Receiving>& receiving,
                           const std::vector<ChunkKey>& keys) {
  core_.tiers->locate(
      {core_.fingerprint, receiving->tenant()}, ids_of(keys), find_deadline(),
      [receiving](std::vector<Tiers::Held> run) { receiving->offer_held(std::move(run)); });
}

void Node::Impl::bring_up(const protocol::Fetch& fetch, TimePoint deadline,
                          std::function<void()> then) {
  const auto load = [this, tokens = fetch.tokens, tenant = fetch.tenant, deadline,
                     then = std::move(then)](std::vector<Tiers::Held> run) mutable {
    const uint32_t chunk_tokens = core_.config.chunk_tokens;
    std::vector<TierLoad::Wanted> wanted;
    for (size_t c = 0; c < run.size(); ++c) {
      if (run[c].pin) continue;
      const auto chunk = static_cast<uint32_t>(c);
      if (uint64_t{chunk} * chunk_tokens >= tokens) break;  // more keys than the peer's tokens have
      const uint32_t of_chunk = std::min(chunk_tokens, tokens - chunk * chunk_tokens);
      wanted.push_back({chunk, run[c].id, of_chunk, segment_bytes(core_.config.kv.layout, of_chunk),
                        std::move(run[c].holders)});
    }
    // What the host tier has stays there meanwhile.
    TierLoad::start(core_, tenant, std::move(wanted), deadline, nullptr,
                    [run = std::make_shared<std::vector<Tiers::Held>>(std::move(run)),
                     then = std::move(then)](const Status&) { then(); });
  };
  core_.tiers->locate({core_.fingerprint, fetch.tenant}, ids_of(fetch.keys), find_deadline(), load);
}

void Node::Impl::on_fetch(const std::shared_ptr<PeerLink>& link, const protocol::Fetch& fetch) {
  // An earlier attempt's engine has answered, its node still gathers: what a retry asks for is in
  // the tier in a moment.
  const std::shared_ptr<Sending> earlier = retaining(fetch.handoff.id);
  std::vector<HostTier::Pin> pins;
  if (!earlier) pins = held(fetch.keys);
  const bool below = !earlier && pins.size() < fetch.keys.size() &&
                     !core_.tiers->holders(ids_of({fetch.keys[pins.size()]}).front()).empty();
  if (!earlier && !below && pins.empty()) return link->send(protocol::Miss{fetch.handoff});
  const TimePoint at = now();
  if (const Status claimed = core_.registry.claim(HandoffRole::kSender, fetch.handoff, at);
      !claimed.ok()) {
    RefuseReason reason = RefuseReason::kDuplicate;
    if (claimed.code() == Code::kResourceExhausted) reason = RefuseReason::kLimit;
    if (claimed.code() == Code::kUnavailable) reason = RefuseReason::kShutdown;
    if (claimed.code() == Code::kRefused)
      reason = reason_of(core_.registry.tombstone(HandoffRole::kSender, fetch.handoff, at)
                             .value_or(protocol::End::kExpired));
    return link->send(protocol::Refuse{fetch.handoff, reason, claimed.message()});
  }
  SendRequest request{.handoff = fetch.handoff,
                      .deadline = at + std::chrono::milliseconds(fetch.budget_ms)};
  const auto sending = std::make_shared<Sending>(core_, std::move(request), sending_gone());
  sendings_[fetch.handoff] = sending;
  sending->connected(link);
  const auto hold = [this, weak = std::weak_ptr(sending), keys = fetch.keys] {
    if (const auto sending = weak.lock()) sending->hold(held(keys));
  };
  if (earlier) {
    sending->start();
    earlier->when_retained(hold);
  } else if (below) {
    sending->start();
    const Duration budget = std::min<Duration>(std::chrono::milliseconds(fetch.budget_ms),
                                               core_.config.tiers.load_deadline);
    bring_up(fetch, at + budget, hold);
  } else {
    sending->hold(std::move(pins));
  }
  if (const auto holder = holdings_.find(fetch.handoff); holder != holdings_.end())
    std::shared_ptr(holder->second)->end_lease();
}

std::shared_ptr<Receiving> Node::Impl::receiving_of(const PeerLink& link,
                                                    const HandoffAttempt& handoff) {
  const auto it = receivings_.find(handoff);
  return it == receivings_.end() || it->second->link() != &link ? nullptr : it->second;
}

std::variant<ChannelEvents::Otherwise, SegmentPlace> Node::Impl::place(
    PeerLink& link, const SegmentHeader& header) {
  if (const auto receiving = receiving_of(link, header.handoff)) return receiving->place(header);
  core_.node_metrics.segment_dropped("unknown_handoff");
  return ChannelEvents::Otherwise::kDrop;
}

void Node::Impl::on_placed(PeerLink& link, const SegmentHeader& header,
                           const Result<Checksum>& checksum) {
  // It is there: it is not quiet before it has heard this.
  if (const auto receiving = receiving_of(link, header.handoff))
    receiving->on_placed(header, checksum);
}

void Node::Impl::on_segment(PeerLink& link, const SegmentHeader& header, ReceivedBytes payload) {
  if (const auto receiving = receiving_of(link, header.handoff))
    return receiving->on_segment(header, std::move(payload));
  core_.node_metrics.segment_dropped("unknown_handoff");
}

}  // namespace baton
