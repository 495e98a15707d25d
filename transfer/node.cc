#include "transfer/node.h"

#include <sched.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "transfer/base/log.h"
#include "transfer/base/text.h"
#include "transfer/cuda/cuda_copier.h"
#include "transfer/node_impl.h"
#include "transfer/tcp/tcp_endpoint.h"
#include "transfer/tiers/nvme/nvme_tier.h"
#include "transfer/tiers/nvme/slab_file.h"
#include "transfer/tiers/s3/s3_tier.h"
#include "transfer/ucx/ucx_endpoint.h"

namespace baton {
namespace {

// Longer ones would keep a core that the engine computes with.
constexpr Duration kMostSpin = std::chrono::milliseconds(1);

// What tiers are still given to end what is under way, when the node stops.
constexpr Duration kTiersClose = std::chrono::seconds(2);

std::string milliseconds(Duration d) { return number(static_cast<uint64_t>(to_ms(d))) + " ms"; }

Status bad(const std::string& text) { return Status(Code::kInvalidArgument, text); }

// The smallest memory that channels can work with: a store lends none.
constexpr size_t kNoTransit = 64u << 10;

Status check_engine(const NodeConfig& config) {
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
  if (config.tenant_bytes != 0 && config.tenant_bytes < chunk)
    return bad("tenant_bytes is " + number(config.tenant_bytes) +
               ": expected 0 or at least one chunk, " + number(chunk));
  if (config.mode == SendMode::kRetained && config.retained_bytes == 0)
    return bad("retained_bytes is 0: retained mode needs room for at least one chunk, " +
               number(chunk));
  return ok_status();
}

Status check_store(const NodeConfig& config) {
  if (config.retained_bytes == 0 || config.chunk_bytes > config.retained_bytes)
    return bad("retained_bytes is " + number(config.retained_bytes) +
               ": a store needs room for at least one chunk" +
               (config.chunk_bytes == 0 ? "" : ", " + number(config.chunk_bytes)));
  if (config.tiers.store)
    return bad("tiers.store is " + config.tiers.store->to_string() + ": a store has none");
  return ok_status();
}

Status check(const NodeConfig& config) {
  BATON_RETURN_IF_ERROR(config.store ? check_store(config) : check_engine(config));
  if (config.spin < Duration::zero() || config.spin > kMostSpin)
    return bad("spin is " + std::to_string(to_ms(config.spin)) + " ms: expected 0 to " +
               std::to_string(to_ms(kMostSpin)));
  const protocol::SenderConfig& sender = config.sender;
  const protocol::ReceiverConfig& receiver = config.receiver;
  if (sender.accept_deadline <= receiver.record_ttl + receiver.accept_deadline)
    return bad("sender.accept_deadline is " + milliseconds(sender.accept_deadline) +
               ": expected more than receiver.record_ttl and accept_deadline together, " +
               milliseconds(receiver.record_ttl + receiver.accept_deadline) +
               ", or no peer could refuse for its engine in time");
  // Whoever is let in can ask for KV.
  const bool asks = config.token.present();
  BATON_RETURN_IF_ERROR(
      check_exposure("--node", config.listen, asks || config.control.tls.any(), config.insecure));
  if (config.http)
    BATON_RETURN_IF_ERROR(check_exposure("--node-http", *config.http, asks, config.insecure));
  if (config.tiers.find_deadline <= Duration::zero())
    return bad("tiers.find_deadline is " + milliseconds(config.tiers.find_deadline) +
               ": expected more than 0");
  if (config.tiers.load_deadline <= Duration::zero())
    return bad("tiers.load_deadline is " + milliseconds(config.tiers.load_deadline) +
               ": expected more than 0");
  if (!(config.tiers.store_share > 0 && config.tiers.store_share <= 1))
    return bad("tiers.store_share is " + std::to_string(config.tiers.store_share) +
               ": expected more than 0, and 1 at most");
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
Result<size_t> Node::drop_chunks(Duration deadline) { return impl_->drop_chunks(deadline); }
const std::string& Node::advertised() const { return impl_->advertised(); }
std::optional<HostPort> Node::http_address() const { return impl_->http_address(); }
const NodeConfig& Node::config() const { return impl_->core().config; }
Metrics& Node::metrics() { return impl_->metrics(); }

// --- start and stop

Node::Impl::Impl(NodeConfig config)
    : core_(std::move(config)), tiers_hang_(core_.io), work_(core_.io.get_executor()) {}

Result<std::unique_ptr<Node::Impl>> Node::Impl::create(NodeConfig config) {
  BATON_RETURN_IF_ERROR(check(config));
  std::unique_ptr<Impl> impl(new Impl(std::move(config)));
  BATON_RETURN_IF_ERROR(impl->start());
  return impl;
}

Status Node::Impl::reserve_memory() {
  const NodeConfig& config = core_.config;
  const uint64_t segment =
      config.store ? kNoTransit : segment_bytes(config.kv.layout, config.chunk_tokens);
  BATON_ASSIGN_OR_RETURN(auto transit,
                         Arena::create({.name = "baton-transit",
                                        .bytes = config.store ? kNoTransit : config.transit_bytes,
                                        .huge_pages = !config.store && config.huge_pages}));
  BATON_ASSIGN_OR_RETURN(core_.transit, SlotPool::create(std::move(transit), segment));
  uint64_t slab = 0;
  if (config.retained_bytes != 0) {
    BATON_ASSIGN_OR_RETURN(auto retained, Arena::create({.name = "baton-retained",
                                                         .bytes = config.retained_bytes,
                                                         .huge_pages = config.huge_pages}));
    uint64_t chunk = segment * config.kv.layer_base.size();
    slab = slab_bytes_for(static_cast<uint32_t>(config.kv.layer_base.size()), segment);
    if (config.store) {
      BATON_ASSIGN_OR_RETURN(slab, slabs_of_store());
      // One that knows no size is one slot until its first peer says how large its chunks are.
      core_.slots_are_cut = slab != 0;
      chunk = slab == 0 ? retained->bytes() : std::max(slab, config.chunk_bytes);
    }
    BATON_ASSIGN_OR_RETURN(core_.retained, SlotPool::create(std::move(retained), chunk));
  }
  core_.tier = std::make_unique<HostTier>(HostTier::Config{.max_bytes = config.retained_bytes,
                                                           .policy = config.tier_policy,
                                                           .chunk_tokens = config.chunk_tokens,
                                                           .tenant_bytes = config.tenant_bytes},
                                          core_.metrics);
  const double share = config.tiers.store_share * static_cast<double>(config.retained_bytes);
  core_.tiers = std::make_unique<Tiers>(
      *core_.tier, Tiers::Config{.store_bytes = static_cast<uint64_t>(share)}, core_.metrics);
  if (config.seams.tiers)
    for (auto& tier : config.seams.tiers(core_.io)) core_.tiers->add(std::move(tier));
  if (core_.slots_are_cut) BATON_RETURN_IF_ERROR(open_nvme(slab));
  if (config.tiers.s3) {
    BATON_ASSIGN_OR_RETURN(auto tier, s3::S3Tier::open(core_.io, *config.tiers.s3, core_.metrics));
    core_.tiers->add(std::move(tier));
  }
  const auto add = [this](const HostPort& peer, bool writes) {
    core_.tiers->add(std::make_unique<NodeTier>(core_.io, *this,
                                                NodeTier::Config{.peer = peer, .writes = writes}));
  };
  if (config.tiers.store) add(*config.tiers.store, true);
  for (const HostPort& peer : config.tiers.peers) add(peer, false);
  return ok_status();
}

// What its devices were formatted with, so that it finds what it kept; else as it was told; else 0.
Result<uint64_t> Node::Impl::slabs_of_store() const {
  for (const NvmeDevice& device : core_.config.tiers.nvme) {
    BATON_ASSIGN_OR_RETURN(const auto formatted, nvme::SlabFile::slab_bytes_of(device.path));
    if (formatted) return *formatted;
  }
  return nvme::whole_blocks(core_.config.chunk_bytes);
}

Status Node::Impl::open_nvme(uint64_t slab_bytes) {
  if (core_.config.tiers.nvme.empty()) return ok_status();
  NvmeConfig nvme{.devices = core_.config.tiers.nvme, .slab_bytes = slab_bytes};
  BATON_ASSIGN_OR_RETURN(auto tier,
                         NvmeTier::open(core_.io, std::move(nvme), core_.retained, core_.metrics));
  core_.tiers->add_first(std::move(tier));
  return ok_status();
}

Result<std::unique_ptr<Copier>> Node::Impl::make_copier() {
  const NodeConfig& config = core_.config;
  const KvMemory& kv = config.kv;
  if (config.store || !kv.cuda_device) return make_host_copier(core_.io);
  if (config.seams.device_copier) return config.seams.device_copier(core_.io);
  BATON_RETURN_IF_ERROR(cuda::check_memory(kv));
  cuda::CudaCopierConfig copier{
      .device = *kv.cuda_device,
      .segment_bytes = segment_bytes(kv.layout, config.chunk_tokens),
      .segment_blocks = blocks_for(kv.layout, config.chunk_tokens),
      .on_bounced =
          [this](uint64_t bytes) { core_.node_metrics.copied(NodeMetrics::Copy::kBounced, bytes); },
      .on_late = [this] { core_.node_metrics.copy_late(); }};
  for (const auto& pool : {core_.transit, core_.retained})
    if (pool) copier.pools.push_back(pool);
  return cuda::make_copier(core_.io, std::move(copier));
}

Status Node::Impl::open_endpoints(ChannelIdentity identity) {
  const NodeConfig& config = core_.config;
  memory_ = ChannelMemory::create(core_.io, core_.transit, core_.retained);
  std::vector<std::unique_ptr<ChannelEndpoint>> endpoints;
  const auto used = [&](ChannelChoice kind) {
    return config.channel == ChannelChoice::kAuto || config.channel == kind;
  };
  // In the order of the table in channels.h.
  if (used(ChannelChoice::kLocal)) {
    BATON_ASSIGN_OR_RETURN(auto local,
                           local::LocalEndpoint::create(core_.io, config.local, identity, memory_));
    endpoints.push_back(std::move(local));
  }
  if (used(ChannelChoice::kUcx)) {
    BATON_ASSIGN_OR_RETURN(auto ucx, open_ucx(identity));
    if (ucx) endpoints.push_back(std::move(ucx));
  }
  if (used(ChannelChoice::kTcp)) {
    BATON_ASSIGN_OR_RETURN(
        auto tcp,
        tcp::TcpEndpoint::create(core_.io, config.tcp, config.listen.host, identity, memory_));
    endpoints.push_back(std::move(tcp));
  }
  channels_ = std::make_unique<Channels>(identity, std::move(endpoints));
  return ok_status();
}

// Null where it was not asked for by name and has nothing that tcp has not.
Result<std::unique_ptr<ChannelEndpoint>> Node::Impl::open_ucx(ChannelIdentity identity) {
  const NodeConfig& config = core_.config;
  const bool automatic = config.channel == ChannelChoice::kAuto;
  ucx::UcxConfig ucx = config.ucx;
  ucx.spin = config.spin;
  if (ucx.devices.empty() && config.listen.is_loopback()) {
    if (automatic) return std::unique_ptr<ChannelEndpoint>();  // peers are on this host
    ucx.devices = "lo";
  }
  auto endpoint = ucx::UcxEndpoint::create(core_.io, ucx, config.listen.host, identity, memory_);
  if (automatic && (!endpoint.ok() || !(*endpoint)->has_rdma())) {
    log::debug("channel ucx not used why=\"{}\"",
               endpoint.ok() ? "no RDMA" : endpoint.status().message());
    return std::unique_ptr<ChannelEndpoint>();
  }
  if (!endpoint.ok()) return endpoint.status();
  // With TCP alone UCX picks one of the host's interfaces, which may not be the one that the peer
  // can reach: ours is known.
  if (const auto interface = interface_of(config.listen.host);
      interface && ucx.devices.empty() && !(*endpoint)->has_rdma()) {
    ucx.devices = *interface;
    endpoint = ucx::UcxEndpoint::create(core_.io, ucx, config.listen.host, identity, memory_);
    if (!endpoint.ok()) return endpoint.status();
  }
  return std::unique_ptr<ChannelEndpoint>(std::move(endpoint).value());
}

Status Node::Impl::start() {
  const NodeConfig& config = core_.config;
  BATON_RETURN_IF_ERROR(reserve_memory());
  BATON_ASSIGN_OR_RETURN(core_.copier, make_copier());
  core_.slot_copier = make_host_copier(core_.io);
  if (config.seams.copier) core_.copier = config.seams.copier(std::move(core_.copier));
  const Incarnation self = Incarnation::random();
  if (config.token.present() || config.control.tls.any())
    sessions_ = std::make_shared<ChannelSessions>();
  BATON_RETURN_IF_ERROR(open_endpoints({self, random_u64(), sessions_}));
  protocol::Hello hello;
  hello.incarnation = self;
  hello.store = config.store;
  if (!config.store) {
    hello.fingerprint = config.fingerprint;
    hello.chunk_tokens = config.chunk_tokens;
    hello.chunk_bytes =
        segment_bytes(config.kv.layout, config.chunk_tokens) * config.kv.layer_base.size();
    hello.opaque_block_bytes = config.kv.layout.opaque_block_bytes;
    if (hello.opaque_block_bytes != 0) hello.opaque_block_tokens = config.kv.layout.block_tokens;
  }
  channels_->describe(hello);
  control::ControlConfig control = config.control;
  control.listen = config.listen;
  control.token = config.token;
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
    BATON_ASSIGN_OR_RETURN(http_,
                           NodeHttp::create(*config.http, config.token, std::move(handlers)));
  }
  const bool exposed = !config.listen.is_loopback() || (config.http && !config.http->is_loopback());
  const bool tls = config.control.tls.any();
  if (exposed && !config.token.present() && !tls)
    log::warn("insecure: other hosts can reach this node, and nobody is asked who they are");
  if (config.token.weak())
    log::warn("the token has fewer than {} characters: whoever overhears a connection can guess it",
              Token::kStrongBytes);
  thread_ = std::thread([this] { run(); });
  log::info(
      "node up address={} advertised={} authentication={} fingerprint_model={} chunk_tokens={} "
      "retained_slots={}",
      address().to_string(), advertised(),
      config.token.present() ? (tls ? "token,tls" : "token") : (tls ? "tls" : "none"),
      config.fingerprint.model, config.chunk_tokens,
      core_.retained ? core_.retained->counts().total : 0);
  return ok_status();
}

// While handoffs are live the next event is mostly near, and to sleep and be woken costs both sides
// more than to look for it for a while.
void Node::Impl::run() {
  const auto live = [this] {
    return !sendings_.empty() || !receivings_.empty() || !keepings_.empty();
  };
  while (core_.io.run_one() != 0) {
    TimePoint worked_at = now();
    while (live() && now() - worked_at < core_.config.spin) {
      if (core_.io.poll() != 0) {
        worked_at = now();
      } else {
        ::sched_yield();
      }
    }
  }
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
  core_.copier->finish();
  const Status why(Code::kUnavailable, "the node is shutting down");
  std::vector<std::shared_ptr<Sending>> sendings;
  for (const auto* map : {&sendings_, &holdings_})
    for (const auto& [handoff, sending] : *map) sendings.push_back(sending);
  for (const auto& sending : sendings) sending->shutdown(why);
  std::vector<std::shared_ptr<Receiving>> receivings;
  for (const auto& [handoff, receiving] : receivings_) receivings.push_back(receiving);
  for (const auto& receiving : receivings) receiving->shutdown(why);
  std::vector<std::shared_ptr<Keeping>> keepings;
  for (const auto& [handoff, keeping] : keepings_) keepings.push_back(keeping);
  for (const auto& keeping : keepings) keeping->shutdown(why);
  for (const auto& question : std::exchange(questions_, {})) question.second.done(why);
  finish_stop_if_idle();
}

void Node::Impl::finish_stop_if_idle() {
  if (!sendings_.empty() || !holdings_.empty() || !receivings_.empty() || !keepings_.empty() ||
      !on_idle_)
    return;
  tiers_hang_.expires_after(core_.config.tiers.hung_after);
  tiers_hang_.async_wait([](boost::system::error_code error) {
    if (error) return;
    log::critical(
        "a tier's device hangs, and this process is to end: what may still write to memory keeps "
        "its owners from freeing it, so the process ends here exit_code={}",
        kHungDeviceExit);
    log::flush();
    ::_exit(kHungDeviceExit);
  });
  core_.tiers->close(now() + kTiersClose, [this, closed = std::exchange(on_idle_, nullptr)] {
    tiers_hang_.cancel();
    closed();
  });
}

void Node::Impl::stop() {
  control_->stop();
  channels_->stop();
  memory_.queue->stop();
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
        const bool own = fetch && peer.empty();
        const std::vector<ChunkKey> keys = own ? request.keys : std::vector<ChunkKey>();
        const auto found = receivings_.find(handoff);
        std::shared_ptr<Receiving> receiving;
        if (found == receivings_.end()) {
          receiving = make_receiving(handoff);
        } else {
          receiving = found->second;
          --records_;
        }
        receiving->claim(std::move(request), std::move(feed), std::move(on_released));
        // The news that its sender failed may have come between the registry's claim and now.
        if (core_.registry.tombstone(HandoffRole::kReceiver, handoff, now()))
          receiving->fail(Status(Code::kUnavailable, "the sender failed before it spoke"));
        if (stopping_)
          return receiving->shutdown(Status(Code::kUnavailable, "the node is shutting down"));
        if (own) return offer_own(receiving, keys);
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
      receiving->fail(why);
      found = true;
    }
    // The news may come before the decoder's request: it must not wait for a prefiller then.
    if (!found && attempt != 0)
      core_.registry.bury(HandoffRole::kReceiver, {id, attempt}, protocol::End::kFailed, now());
  });
}

}  // namespace baton
