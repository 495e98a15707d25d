// What nodes keep for one another: what a peer may FETCH and LOOK UP here, and what this node asks
// of others and gives to a store.
#include <algorithm>
#include <boost/asio/post.hpp>

#include "transfer/base/log.h"
#include "transfer/node_impl.h"

namespace baton {
namespace {

using protocol::RefuseReason;

// LOOKUPs of peers that wait for tiers which must ask; to those beyond, nothing is there.
constexpr uint32_t kMostLookups = 1024;

// What a chunk of a model has: this node's engine's, or, at a store, as the peer says of its own.
struct ChunkShape {
  uint32_t chunk_tokens = 1;
  uint32_t layers = 1;
  uint64_t chunk_bytes = 0;
  uint32_t opaque_block_tokens = 0;
  uint64_t opaque_block_bytes = 0;

  uint64_t segment_bytes(uint32_t tokens) const {
    if (opaque_block_tokens != 0)
      return (tokens + opaque_block_tokens - 1) / opaque_block_tokens * opaque_block_bytes;
    return chunk_bytes / layers / chunk_tokens * tokens;
  }
};

ChunkShape shape_of(const NodeCore& core, const protocol::Hello& peer) {
  if (core.config.store)
    return {std::max(peer.chunk_tokens, 1u), std::max(peer.fingerprint.layers, 1u),
            peer.chunk_bytes, peer.opaque_block_tokens, peer.opaque_block_bytes};
  const auto layers = static_cast<uint32_t>(core.config.kv.layer_base.size());
  const KvLayout& layout = core.config.kv.layout;
  const bool opaque = layout.opaque_block_bytes != 0;
  return {core.config.chunk_tokens, layers,
          segment_bytes(layout, core.config.chunk_tokens) * layers,
          opaque ? layout.block_tokens : 0, layout.opaque_block_bytes};
}

}  // namespace

std::shared_ptr<Sending> Node::Impl::retaining(const HandoffId& handoff) const {
  for (const auto* map : {&sendings_, &holdings_})
    for (const auto& [attempt, sending] : *map)
      if (attempt.id == handoff && sending->retaining()) return sending;
  return nullptr;
}

std::vector<HostTier::Pin> Node::Impl::held(const std::vector<ChunkKey>& keys) {
  std::vector<HostTier::Pin> pins = core_.tier->find_leading(keys, 0, 0);
  // One offer has chunks of one shape: whole ones, and a tail at its end.
  for (size_t i = 0; i < pins.size(); ++i) {
    const Chunk& chunk = pins[i].chunk();
    const Chunk& first = pins.front().chunk();
    const bool same = chunk.order == (core_.config.store ? first.order : core_.group().order) &&
                      chunk.checksums.size() == first.checksums.size() &&
                      chunk.tokens <= first.tokens;
    const bool tail = chunk.tokens < first.tokens ||
                      (!core_.config.store && chunk.tokens < core_.config.chunk_tokens);
    if (!same || tail) pins.resize(same ? i + 1 : i);
  }
  return pins;
}

std::vector<ChunkId> Node::Impl::ids_of(const std::vector<ChunkKey>& keys) const {
  std::vector<ChunkId> ids;
  ids.reserve(keys.size());
  for (const ChunkKey& key : keys) ids.push_back({key, 0, 0});
  return ids;
}

TimePoint Node::Impl::find_deadline() const {
  const NodeConfig& config = core_.config;
  return now() + std::min(config.tiers.find_deadline, config.receiver.first_contact_deadline / 2);
}

void Node::Impl::offer_own(const std::shared_ptr<Receiving>& receiving,
                           const std::vector<ChunkKey>& keys) {
  core_.tiers->locate(
      {core_.fingerprint, receiving->tenant()}, ids_of(keys), find_deadline(), Tiers::Reach::kAll,
      [receiving](std::vector<Tiers::Held> run) { receiving->offer_held(std::move(run)); });
}

void Node::Impl::bring_up(const std::shared_ptr<Sending>& sending, const PeerLink& link,
                          const protocol::Fetch& fetch, TimePoint deadline,
                          std::function<void()> then) {
  const ChunkOrigin origin{origin_of(link), fetch.tenant};
  const ChunkShape shape = shape_of(core_, link.hello());
  const auto load = [this, weak = std::weak_ptr(sending), tokens = fetch.tokens, origin, shape,
                     deadline, then = std::move(then)](std::vector<Tiers::Held> run) mutable {
    const auto sending = weak.lock();
    if (!sending) return;
    std::vector<TierLoad::Wanted> wanted;
    for (size_t c = 0; c < run.size(); ++c) {
      if (run[c].pin) continue;
      const uint64_t first = uint64_t{c} * shape.chunk_tokens;
      if (first >= tokens) break;  // more keys than the peer's tokens have
      const auto of_chunk =
          static_cast<uint32_t>(std::min<uint64_t>(shape.chunk_tokens, tokens - first));
      wanted.push_back({static_cast<uint32_t>(c), run[c].id, of_chunk, shape.layers,
                        shape.segment_bytes(of_chunk), std::move(run[c].holders)});
    }
    // What the host tier has stays there meanwhile.
    sending->loads(
        TierLoad::start(core_, origin, std::move(wanted), deadline, nullptr,
                        [run = std::make_shared<std::vector<Tiers::Held>>(std::move(run)),
                         then = std::move(then)](const Status&) { then(); }));
  };
  core_.tiers->locate(origin, ids_of(fetch.keys), find_deadline(), Tiers::Reach::kThisNode, load);
}

void Node::Impl::on_fetch(const std::shared_ptr<PeerLink>& link, const protocol::Fetch& fetch) {
  // What the tier has means something to this node's engine alone.
  if (core_.tiers->forgotten() != 0 && !held_for(fetch.handoff))
    return link->send(protocol::Miss{fetch.handoff});
  // An earlier attempt's engine has answered, its node still gathers: what a retry asks for is in
  // the tier in a moment.
  const std::shared_ptr<Sending> earlier = retaining(fetch.handoff.id);
  std::vector<HostTier::Pin> pins;
  if (!earlier) pins = held(fetch.keys);
  const bool below =
      !earlier && pins.size() < fetch.keys.size() &&
      !core_.tiers->holders(ids_of({fetch.keys[pins.size()]}).front(), Tiers::Reach::kThisNode)
           .empty();
  if (!earlier && !below && pins.empty()) return link->send(protocol::Miss{fetch.handoff});
  const TimePoint at = now();
  if (const Status claimed = core_.registry.claim(HandoffRole::kSender, fetch.handoff, at);
      !claimed.ok()) {
    RefuseReason reason = RefuseReason::kDuplicate;
    if (claimed.code() == Code::kResourceExhausted) reason = RefuseReason::kLimit;
    if (claimed.code() == Code::kUnavailable) reason = RefuseReason::kShutdown;
    if (claimed.code() == Code::kRefused)
      reason = refusal_after(core_.registry.tombstone(HandoffRole::kSender, fetch.handoff, at)
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
    bring_up(sending, *link, fetch, at + budget, hold);
  } else {
    sending->hold(std::move(pins));
  }
  if (const auto holder = holdings_.find(fetch.handoff); holder != holdings_.end())
    std::shared_ptr(holder->second)->end_lease();
}

// --- other nodes as tiers

bool Node::Impl::held_for(const HandoffAttempt& handoff) const {
  for (const auto* map : {&sendings_, &holdings_})
    for (const auto& [attempt, sending] : *map)
      if (attempt.id == handoff.id) return true;
  return false;
}

FingerprintDigest Node::Impl::origin_of(const PeerLink& link) const {
  return core_.config.store ? link.fingerprint() : core_.fingerprint;
}

void Node::Impl::on_lookup(const std::shared_ptr<PeerLink>& link, const protocol::Lookup& lookup) {
  protocol::Found found{lookup.question, std::vector<bool>(lookup.keys.size(), false)};
  if (lookups_ >= kMostLookups || core_.tiers->forgotten() != 0) return link->send(found);
  ++lookups_;
  std::vector<ChunkId> ids;
  for (const ChunkKey& key : lookup.keys) ids.push_back({key, lookup.kv_group, lookup.head_group});
  const TimePoint deadline = now() + std::min<Duration>(std::chrono::milliseconds(lookup.budget_ms),
                                                        core_.config.tiers.find_deadline);
  core_.tiers->locate({origin_of(*link), lookup.tenant}, std::move(ids), deadline,
                      Tiers::Reach::kThisNode,
                      [this, link, found](const std::vector<Tiers::Held>& run) mutable {
                        --lookups_;
                        std::fill_n(found.held.begin(), run.size(), true);
                        link->send(found);
                      });
}

void Node::Impl::look_up(const HostPort& peer, TenantId tenant, std::vector<ChunkId> ids,
                         TimePoint deadline, OnFound done) {
  if (stopping_)
    return boost::asio::post(core_.io, [done = std::move(done)] {
      done(Status(Code::kUnavailable, "the node is shutting down"));
    });
  const uint64_t number = ++asked_;
  Question& question = questions_[number];
  question.done = std::move(done);
  question.timer = std::make_shared<boost::asio::steady_timer>(core_.io);
  question.timer->expires_at(
      std::chrono::time_point_cast<std::chrono::steady_clock::duration>(deadline));
  question.timer->async_wait([this, number](boost::system::error_code error) {
    if (!error)
      answered(number, Status(Code::kDeadlineExceeded, "the peer did not answer in time"));
  });
  protocol::Lookup lookup{.question = number, .tenant = tenant};
  for (const ChunkId& id : ids) lookup.keys.push_back(id.key);
  connect(peer, [this, number, deadline,
                 lookup = std::move(lookup)](Result<std::shared_ptr<PeerLink>> link) mutable {
    const auto question = questions_.find(number);
    if (question == questions_.end()) return;
    if (!link.ok()) return answered(number, link.status());
    question->second.peer = link->get();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now());
    lookup.budget_ms = static_cast<uint32_t>(std::clamp<int64_t>(left.count(), 0, UINT32_MAX));
    (*link)->send(lookup);
  });
}

void Node::Impl::answered(uint64_t number, Result<std::vector<bool>> found) {
  const auto question = questions_.extract(number);
  if (!question) return;
  question.mapped().timer->cancel();
  question.mapped().done(std::move(found));
}

void Node::Impl::leave_unanswered(const PeerLink& link, const Status& why) {
  std::vector<uint64_t> open;
  for (const auto& [number, question] : questions_)
    if (question.peer == &link) open.push_back(number);
  for (const uint64_t number : open) answered(number, why);
}

Result<std::shared_ptr<Keeping>> Node::Impl::fetch_chunk(const HostPort& peer,
                                                         Keeping::Wanted wanted) {
  const HandoffAttempt handoff{HandoffId::random(), 1};
  BATON_RETURN_IF_ERROR(core_.registry.claim(HandoffRole::kReceiver, handoff, now()));
  const std::shared_ptr<Keeping> keeping = make_keeping(handoff);
  keeping->fetch(std::move(wanted));
  connect(peer, [keeping](Result<std::shared_ptr<PeerLink>> link) {
    keeping->connected(std::move(link));
  });
  return keeping;
}

void Node::Impl::send_chunk(const HostPort& peer, Chunk chunk, TimePoint deadline,
                            Tier::OnDone done) {
  const HandoffAttempt handoff{HandoffId::random(), 1};
  if (const Status claimed = core_.registry.claim(HandoffRole::kSender, handoff, now());
      !claimed.ok())
    return boost::asio::post(core_.io, [done = std::move(done), claimed] { done(claimed); });
  SendRequest request{.handoff = handoff, .deadline = deadline, .tenant = chunk.origin.tenant};
  const auto sending = std::make_shared<Sending>(
      core_, std::move(request), [done = std::move(done), gone = sending_gone()](Sending& over) {
        const bool committed = over.end() == protocol::End::kCommitted;
        done(committed ? ok_status() : over.why());
        gone(over);
      });
  sendings_[handoff] = sending;
  connect(peer, [sending, chunk = std::move(chunk)](Result<std::shared_ptr<PeerLink>> link) {
    const bool connected = link.ok();
    sending->connected(std::move(link));
    if (connected) sending->hold(std::vector<Chunk>{chunk});
  });
}

}  // namespace baton
