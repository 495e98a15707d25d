#include "transfer/node.h"

#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "transfer/base/log.h"
#include "transfer/node_impl.h"

namespace baton {
namespace {

std::string number(uint64_t n) { return std::to_string(n); }

Status check(const NodeConfig& config) {
  const auto bad = [](const std::string& text) { return Status(Code::kInvalidArgument, text); };
  const KvMemory& kv = config.kv;
  BATON_RETURN_IF_ERROR(validate(kv.layout));
  if (kv.layer_base.empty() || kv.layer_base.size() > protocol::kMaxLayers)
    return bad("the KV memory has " + number(kv.layer_base.size()) + " layers: expected 1 to " +
               number(protocol::kMaxLayers));
  if (kv.blocks == 0) return bad("the KV memory has 0 blocks: expected at least 1");
  if (config.chunk_tokens == 0 || config.chunk_tokens % kv.layout.block_tokens != 0)
    return bad("chunk_tokens is " + number(config.chunk_tokens) +
               ": expected a multiple of block_tokens, which is " + number(kv.layout.block_tokens));
  const uint64_t segment = segment_bytes(kv.layout, config.chunk_tokens);
  if (segment > protocol::kMaxSegmentBytes)
    return bad("a segment of " + number(config.chunk_tokens) + " tokens has " + number(segment) +
               " bytes: expected at most " + number(protocol::kMaxSegmentBytes));
  if (config.window_bytes < segment)
    return bad("window_bytes is " + number(config.window_bytes) +
               ": expected at least one segment, " + number(segment));
  if (config.transit_bytes < segment)
    return bad("transit_bytes is " + number(config.transit_bytes) +
               ": expected at least one segment, " + number(segment));
  const uint64_t chunk = segment * kv.layer_base.size();
  if (config.retained_bytes != 0 && config.retained_bytes < chunk)
    return bad("retained_bytes is " + number(config.retained_bytes) +
               ": expected 0 or at least one chunk, " + number(chunk));
  if (config.mode == SendMode::kRetained && config.retained_bytes == 0)
    return bad("retained_bytes is 0: retained mode needs room for at least one chunk, " +
               number(chunk));
  return ok_status();
}

}  // namespace

// --- Node

Node::Node(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Node::~Node() = default;

Result<std::unique_ptr<Node>> Node::create(NodeConfig config) {
  BATON_ASSIGN_OR_RETURN(auto impl, Impl::create(std::move(config)));
  return std::unique_ptr<Node>(new Node(std::move(impl)));
}

HostPort Node::address() const { return impl_->address(); }
std::optional<HostPort> Node::http_address() const { return impl_->http_address(); }
const NodeConfig& Node::config() const { return impl_->core().config; }
Metrics& Node::metrics() { return impl_->metrics(); }

// --- start and stop

Node::Impl::Impl(NodeConfig config) : core_(std::move(config)), work_(core_.io.get_executor()) {}

Result<std::unique_ptr<Node::Impl>> Node::Impl::create(NodeConfig config) {
  BATON_RETURN_IF_ERROR(check(config));
  std::unique_ptr<Impl> impl(new Impl(std::move(config)));
  BATON_RETURN_IF_ERROR(impl->start());
  return impl;
}

Status Node::Impl::reserve_memory() {
  const NodeConfig& config = core_.config;
  const uint64_t segment = segment_bytes(config.kv.layout, config.chunk_tokens);
  BATON_ASSIGN_OR_RETURN(auto transit, Arena::create({.name = "baton-transit",
                                                      .bytes = config.transit_bytes,
                                                      .huge_pages = config.huge_pages}));
  BATON_ASSIGN_OR_RETURN(core_.transit, SlotPool::create(std::move(transit), segment));
  if (config.retained_bytes != 0) {
    BATON_ASSIGN_OR_RETURN(auto retained, Arena::create({.name = "baton-retained",
                                                         .bytes = config.retained_bytes,
                                                         .huge_pages = config.huge_pages}));
    BATON_ASSIGN_OR_RETURN(core_.retained, SlotPool::create(std::move(retained),
                                                            segment * config.kv.layer_base.size()));
  }
  core_.tier = std::make_unique<HostTier>(HostTier::Config{.max_bytes = config.retained_bytes},
                                          core_.metrics);
  return ok_status();
}

Status Node::Impl::start() {
  const NodeConfig& config = core_.config;
  BATON_RETURN_IF_ERROR(reserve_memory());
  core_.copier = make_host_copier(core_.io);
  if (config.seams.copier) core_.copier = config.seams.copier(std::move(core_.copier));
  const Incarnation self = Incarnation::random();
  BATON_ASSIGN_OR_RETURN(local_, local::LocalEndpoint::create(core_.io, config.local, self,
                                                              core_.transit, core_.retained));
  protocol::Hello hello;
  hello.incarnation = self;
  hello.fingerprint = config.fingerprint;
  hello.chunk_tokens = config.chunk_tokens;
  hello.opaque_block_bytes = config.kv.layout.opaque_block_bytes;
  if (hello.opaque_block_bytes != 0) hello.opaque_block_tokens = config.kv.layout.block_tokens;
  hello.local_socket = local_->socket_name();
  hello.channel_nonce = local_->nonce();
  control::ControlConfig control = config.control;
  control.listen = config.listen;
  BATON_ASSIGN_OR_RETURN(control_, control::ControlPlane::create(
                                       core_.io, control, std::move(hello), *this, core_.metrics));
  if (config.http) {
    NodeHttp::Handlers handlers;
    handlers.metrics = [this] {
      refresh_gauges();
      return core_.metrics.text();
    };
    handlers.debug_handoffs = [this] { return debug_handoffs(std::chrono::seconds(2)); };
    handlers.fail = [this](const HandoffId& id, uint32_t attempt, const std::string& reason) {
      fail(id, attempt, reason);
    };
    BATON_ASSIGN_OR_RETURN(http_, NodeHttp::create(*config.http, std::move(handlers)));
  }
  thread_ = std::thread([this] { core_.io.run(); });
  log::info("node up address={} fingerprint_model={} chunk_tokens={} retained_slots={}",
            address().to_string(), config.fingerprint.model, config.chunk_tokens,
            core_.retained ? core_.retained->counts().total : 0);
  return ok_status();
}

// In this order: no new requests, every handoff ends and becomes quiet, the peers hear of it, the
// connections close, the thread ends, memory goes.
Node::Impl::~Impl() {
  http_.reset();
  core_.registry.close();
  if (thread_.joinable()) {
    boost::asio::post(core_.io, [this] { begin_stop(); });
    thread_.join();
  }
}

void Node::Impl::begin_stop() {
  stopping_ = true;
  on_idle_ = [this] { stop(); };
  const Status why(Code::kUnavailable, "the node is shutting down");
  std::vector<std::shared_ptr<Sending>> sendings;
  for (const auto* map : {&sendings_, &holdings_})
    for (const auto& [handoff, sending] : *map) sendings.push_back(sending);
  for (const auto& sending : sendings) sending->shutdown(why);
  std::vector<std::shared_ptr<Receiving>> receivings;
  for (const auto& [handoff, receiving] : receivings_) receivings.push_back(receiving);
  for (const auto& receiving : receivings) receiving->shutdown(why);
  finish_stop_if_idle();
}

void Node::Impl::finish_stop_if_idle() {
  if (sendings_.empty() && holdings_.empty() && receivings_.empty() && on_idle_)
    std::exchange(on_idle_, nullptr)();
}

void Node::Impl::stop() {
  control_->stop();
  local_->stop();
  // Closing posts its last callbacks; they run before this.
  boost::asio::post(core_.io, [this] {
    work_.reset();
    core_.io.stop();
  });
}

std::optional<HostPort> Node::Impl::http_address() const {
  if (!http_) return std::nullopt;
  return http_->address();
}

// --- from the engine's threads

Status Node::Impl::start_sending(SendRequest request, std::vector<HostPort> peer,
                                 std::shared_ptr<SendFeed> feed,
                                 std::function<void()> on_released) {
  const HandoffRole role = request.with_peer ? HandoffRole::kSender : HandoffRole::kHolder;
  BATON_RETURN_IF_ERROR(core_.registry.claim(role, request.handoff, now()));
  boost::asio::post(
      core_.io, [this, role, request = std::move(request), peer = std::move(peer),
                 feed = std::move(feed), on_released = std::move(on_released)]() mutable {
        const HandoffAttempt handoff = request.handoff;
        auto sending = std::make_shared<Sending>(core_, std::move(request), std::move(feed),
                                                 std::move(on_released), sending_gone());
        (role == HandoffRole::kSender ? sendings_ : holdings_)[handoff] = sending;
        sending->start();
        if (stopping_)
          return sending->shutdown(Status(Code::kUnavailable, "the node is shutting down"));
        if (peer.empty()) return;
        connect(peer.front(), [sending](Result<std::shared_ptr<PeerLink>> link) {
          sending->connected(std::move(link));
        });
      });
  return ok_status();
}

Status Node::Impl::start_receiving(ReceiveRequest request, std::vector<HostPort> peer,
                                   std::shared_ptr<ReceiveFeed> feed,
                                   std::function<void()> on_released) {
  BATON_RETURN_IF_ERROR(core_.registry.claim(HandoffRole::kReceiver, request.handoff, now()));
  boost::asio::post(
      core_.io, [this, request = std::move(request), peer = std::move(peer), feed = std::move(feed),
                 on_released = std::move(on_released)]() mutable {
        const HandoffAttempt handoff = request.handoff;
        const bool fetch = request.flow == protocol::Flow::kFetch;
        const auto found = receivings_.find(handoff);
        std::shared_ptr<Receiving> receiving;
        if (found == receivings_.end()) {
          receiving = make_receiving(handoff);
        } else {
          receiving = found->second;
          --records_;
        }
        receiving->claim(std::move(request), std::move(feed), std::move(on_released));
        if (stopping_)
          return receiving->shutdown(Status(Code::kUnavailable, "the node is shutting down"));
        if (!fetch) return;
        connect(peer.front(), [receiving](Result<std::shared_ptr<PeerLink>> link) {
          receiving->connected(std::move(link));
        });
      });
  return ok_status();
}

void Node::Impl::wake(HandoffRole role, const HandoffAttempt& handoff) {
  boost::asio::post(core_.io, [this, role, handoff] {
    if (role != HandoffRole::kReceiver) {
      auto& sendings = role == HandoffRole::kSender ? sendings_ : holdings_;
      if (const auto it = sendings.find(handoff); it != sendings.end())
        std::shared_ptr(it->second)->on_feed();
    } else if (const auto it = receivings_.find(handoff); it != receivings_.end()) {
      std::shared_ptr(it->second)->on_feed();
    }
  });
}

void Node::Impl::fail(const HandoffId& id, uint32_t attempt, const std::string& reason) {
  boost::asio::post(core_.io, [this, id, attempt, reason] {
    const Status why(Code::kUnavailable, "the router says that the prefiller failed: " + reason);
    bool found = false;
    std::vector<std::shared_ptr<Receiving>> hit;
    for (const auto& [handoff, receiving] : receivings_)
      if (handoff.id == id && (attempt == 0 || handoff.attempt == attempt))
        hit.push_back(receiving);
    for (const auto& receiving : hit) {
      receiving->sender_failed(why);
      found = true;
    }
    // The news may come before the decoder's request: it must not wait for a prefiller then.
    if (!found && attempt != 0)
      core_.registry.bury(HandoffRole::kReceiver, {id, attempt}, protocol::End::kFailed, now());
  });
}

// --- peers

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
  auto link = std::make_shared<PeerLink>(
      core_, peer, [this](PeerLink& from, const SegmentHeader& header, ReceivedBytes payload) {
        on_segment(from, header, std::move(payload));
      });
  links_[peer.get()] = link;
  log::info("peer up node={}", link->node());
  link->open(*local_);
}

void Node::Impl::on_stalled(control::Peer& peer) {
  const auto link = link_of(peer);
  if (!link) return;
  const Status why(Code::kUnavailable, "node " + link->node() + " has missed its heartbeats");
  // The connection stands: a peer that was only stopped hears, when it goes on, that this is over.
  for (const auto& sending : sendings_of(*link)) sending->abort(protocol::End::kFailed, why);
  for (const auto& receiving : receivings_of(*link)) receiving->sender_failed(why);
}

void Node::Impl::on_resumed(control::Peer& peer) {
  log::info("peer resumed node={}", peer.hello().node);
}

void Node::Impl::on_down(control::Peer& peer, const Status& why) {
  const auto link = link_of(peer);
  if (!link) return;
  links_.erase(&peer);
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
          protocol::Refuse{handoff, protocol::RefuseReason::kDuplicate,
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
  for (const HandoffRole role : {HandoffRole::kSender, HandoffRole::kReceiver})
    if (!core_.registry.tombstone(role, handoff, at))
      core_.registry.bury(role, handoff, protocol::End::kCancelled, at);
  link->send(protocol::Drained{handoff});
}

void Node::Impl::on_new_receiving(const std::shared_ptr<PeerLink>& link,
                                  const protocol::Message& message, const HandoffAttempt& handoff) {
  using protocol::RefuseReason;
  if (const auto end = core_.registry.tombstone(HandoffRole::kReceiver, handoff, now())) {
    const RefuseReason reason =
        *end == protocol::End::kCancelled ? RefuseReason::kCancelled : RefuseReason::kExpired;
    return link->send(protocol::Refuse{
        handoff, reason,
        std::string("this attempt has ended already: ") + protocol::end_name(*end)});
  }
  if (stopping_)
    return link->send(protocol::Refuse{handoff, RefuseReason::kShutdown, "shutting down"});
  if (records_ >= core_.config.max_records)
    return link->send(protocol::Refuse{
        handoff, RefuseReason::kLimit,
        number(records_) + " offers wait for their request already, as many as this node keeps"});
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

void Node::Impl::on_fetch(const std::shared_ptr<PeerLink>& link, const protocol::Fetch& fetch) {
  const protocol::GroupOffer group = core_.group();
  std::vector<HostTier::Pin> pins;
  uint32_t tokens = 0;
  for (const ChunkKey& key : fetch.keys) {
    std::optional<HostTier::Pin> pin = core_.tier->find({key, group.kv_group, group.head_group});
    if (!pin || pin->chunk().order != group.order) break;
    tokens += pin->chunk().tokens;
    const bool tail = pin->chunk().tokens < core_.config.chunk_tokens;
    pins.push_back(std::move(*pin));
    if (tail) break;
  }
  if (pins.empty()) return link->send(protocol::Miss{fetch.handoff});
  if (const Status claimed = core_.registry.claim(HandoffRole::kSender, fetch.handoff, now());
      !claimed.ok())
    return link->send(
        protocol::Refuse{fetch.handoff, protocol::RefuseReason::kDuplicate, claimed.message()});
  SendRequest request{.handoff = fetch.handoff,
                      .deadline = now() + std::chrono::milliseconds(fetch.budget_ms),
                      .tokens = tokens,
                      .keys = {fetch.keys.begin(), fetch.keys.begin() + pins.size()}};
  auto sending =
      std::make_shared<Sending>(core_, std::move(request), std::move(pins), sending_gone());
  sendings_[fetch.handoff] = sending;
  sending->start();
  sending->connected(link);
  if (const auto held = holdings_.find(fetch.handoff); held != holdings_.end())
    std::shared_ptr(held->second)->end_lease();
}

void Node::Impl::on_segment(PeerLink& link, const SegmentHeader& header, ReceivedBytes payload) {
  const auto it = receivings_.find(header.handoff);
  if (it == receivings_.end() || it->second->link() != &link)
    return core_.node_metrics.segment_dropped("unknown_handoff");
  std::shared_ptr(it->second)->on_segment(header, std::move(payload));
}

}  // namespace baton
