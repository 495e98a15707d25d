// Who is connected, and which handoff a message or a segment belongs to.
#include "transfer/base/log.h"
#include "transfer/node_impl.h"

namespace baton {
namespace {

using protocol::RefuseReason;

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
  if (core_.config.store) cut_slots(peer->hello());
  link->open(*channels_);
}

// Whether a store's slots may be cut for the rest of its life as this peer's chunks are. Smaller
// segments than a page would fill the arena with what describes them.
bool Node::Impl::slots_fit(const protocol::Hello& peer) {
  constexpr uint64_t kLeastBytes = 4096;  // of a chunk
  const uint32_t layers = peer.fingerprint.layers;
  return layers != 0 && layers <= protocol::kMaxLayers && peer.chunk_bytes >= kLeastBytes &&
         peer.chunk_bytes % layers == 0 && peer.chunk_bytes / layers <= protocol::kMaxSegmentBytes;
}

// The slots of a store that was not told how large chunks are fit its first peer's.
void Node::Impl::cut_slots(const protocol::Hello& peer) {
  if (peer.store || peer.chunk_bytes == 0) return;
  if (!core_.slots_are_cut) {
    if (!slots_fit(peer))
      return log::warn("chunks of node {} are not kept: {} bytes in {} layers are no chunk",
                       peer.node, peer.chunk_bytes, peer.fingerprint.layers);
    const Status cut = core_.retained->recut(peer.chunk_bytes);
    if (!cut.ok()) return log::warn("chunks of node {} are not kept: {}", peer.node, cut.message());
    core_.slots_are_cut = true;
    const uint32_t layers = peer.fingerprint.layers;
    if (const Status opened = open_nvme(slab_bytes_for(layers, peer.chunk_bytes / layers));
        !opened.ok())
      log::error("no NVMe tier: {}", opened.message());
    return log::info("store ready chunk_bytes={} slots={}", peer.chunk_bytes,
                     core_.retained->counts().total);
  }
  if (peer.chunk_bytes > core_.retained->slot_bytes())
    log::warn(
        "chunks of node {} have {} bytes and are not kept: slots of this store have {} "
        "(chunk_bytes)",
        peer.node, peer.chunk_bytes, core_.retained->slot_bytes());
}

void Node::Impl::on_stalled(control::Peer& peer) {
  const auto link = link_of(peer);
  if (!link) return;
  const Status why(Code::kUnavailable, "node " + link->node() + " has missed its heartbeats");
  // The connection stands: a peer that was only stopped hears, when it goes on, that this is over.
  for (const auto& sending : sendings_of(*link)) sending->abort(protocol::End::kFailed, why);
  for (const auto& receiver : receivers_of(*link)) receiver->fail(why);
  leave_unanswered(*link, why);
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
  for (const auto& receiver : receivers_of(*link)) receiver->peer_lost(lost);
  leave_unanswered(*link, lost);
  link->down(why);
}

std::vector<std::shared_ptr<Sending>> Node::Impl::sendings_of(const PeerLink& link) const {
  std::vector<std::shared_ptr<Sending>> out;
  for (const auto& [handoff, sending] : sendings_)
    if (sending->link() == &link) out.push_back(sending);
  return out;
}

std::vector<std::shared_ptr<Receiver>> Node::Impl::receivers_of(const PeerLink& link) const {
  std::vector<std::shared_ptr<Receiver>> out;
  for (const auto& [handoff, receiving] : receivings_)
    if (receiving->link() == &link) out.push_back(receiving);
  for (const auto& [handoff, keeping] : keepings_)
    if (keeping->link() == &link) out.push_back(keeping);
  return out;
}

// --- messages and segments

void Node::Impl::on_message(control::Peer& peer, protocol::Message message) {
  const std::shared_ptr<PeerLink> link = link_of(peer);
  if (!link) return;
  if (const auto* lookup = std::get_if<protocol::Lookup>(&message)) return on_lookup(link, *lookup);
  if (auto* found = std::get_if<protocol::Found>(&message)) {
    const auto question = questions_.find(found->question);
    if (question != questions_.end() && question->second.peer == link.get())
      answered(found->question, std::move(found->held));
    return;
  }
  const HandoffAttempt* named = protocol::handoff_of(message);
  if (named == nullptr) return;
  const HandoffAttempt handoff = *named;
  if (const auto* fetch = std::get_if<protocol::Fetch>(&message)) return on_fetch(link, *fetch);
  if (const std::shared_ptr<Receiver> there = receiver(handoff)) {
    if (there->link() == nullptr || there->link() == link.get())
      return there->on_message(link, message);
    if (std::holds_alternative<protocol::Queued>(message) ||
        std::holds_alternative<protocol::Offer>(message))
      return link->send(
          protocol::Refuse{handoff, RefuseReason::kDuplicate,
                           "node " + there->link()->node() + " sends this handoff already"});
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
  const bool others = sendings_.contains(handoff) || receiver(handoff) != nullptr;
  for (const HandoffRole role : {HandoffRole::kSender, HandoffRole::kReceiver})
    if (!others && !core_.registry.tombstone(role, handoff, at))
      core_.registry.bury(role, handoff, protocol::End::kCancelled, at);
  link->send(protocol::Drained{handoff});
}

void Node::Impl::on_new_receiving(const std::shared_ptr<PeerLink>& link,
                                  const protocol::Message& message, const HandoffAttempt& handoff) {
  if (const auto end = core_.registry.tombstone(HandoffRole::kReceiver, handoff, now()))
    return link->send(protocol::Refuse{
        handoff, refusal_after(*end),
        std::string("this attempt has ended already: ") + protocol::end_name(*end)});
  if (stopping_)
    return link->send(protocol::Refuse{handoff, RefuseReason::kShutdown, "shutting down"});
  if (core_.config.store) {
    if (keepings_.size() >= core_.config.max_handoffs)
      return link->send(protocol::Refuse{
          handoff, RefuseReason::kLimit,
          std::to_string(keepings_.size()) + " handoffs are on their way to this store already"});
    return make_keeping(handoff)->on_message(link, message);
  }
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

std::shared_ptr<Keeping> Node::Impl::make_keeping(const HandoffAttempt& handoff) {
  auto keeping = std::make_shared<Keeping>(core_, handoff, [this](Keeping& gone) {
    keepings_.erase(gone.handoff());
    finish_stop_if_idle();
  });
  keepings_[handoff] = keeping;
  return keeping;
}

Sending::OnGone Node::Impl::sending_gone() {
  return [this](Sending& gone) {
    (gone.role() == HandoffRole::kSender ? sendings_ : holdings_).erase(gone.handoff());
    finish_stop_if_idle();
  };
}

std::shared_ptr<Receiver> Node::Impl::receiver(const HandoffAttempt& handoff) const {
  if (const auto it = receivings_.find(handoff); it != receivings_.end()) return it->second;
  if (const auto it = keepings_.find(handoff); it != keepings_.end()) return it->second;
  return nullptr;
}

std::shared_ptr<Receiver> Node::Impl::receiver_from(const PeerLink& link,
                                                    const HandoffAttempt& handoff) const {
  std::shared_ptr<Receiver> found = receiver(handoff);
  return found && found->link() == &link ? found : nullptr;
}

std::variant<ChannelEvents::Otherwise, SegmentPlace> Node::Impl::place(
    PeerLink& link, const SegmentHeader& header) {
  if (const auto receiver = receiver_from(link, header.handoff)) return receiver->place(header);
  core_.node_metrics.segment_dropped("unknown_handoff");
  return ChannelEvents::Otherwise::kDrop;
}

void Node::Impl::on_placed(PeerLink& link, const SegmentHeader& header,
                           const Result<Checksum>& checksum) {
  // It is there: it is not quiet before it has heard this.
  if (const auto receiver = receiver_from(link, header.handoff))
    receiver->on_placed(header, checksum);
}

void Node::Impl::on_segment(PeerLink& link, const SegmentHeader& header, ReceivedBytes payload) {
  if (const auto receiver = receiver_from(link, header.handoff))
    return receiver->on_segment(header, std::move(payload));
  core_.node_metrics.segment_dropped("unknown_handoff");
}

}  // namespace baton
