#include "transfer/node_tier.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "transfer/base/log.h"

namespace baton {

struct NodeTier::State {
  explicit State(const Config& config)
      : peer(config.peer.to_string()), breaker(config.breaker), most(config.max_remembered) {}

  void remember(const ChunkId& id) {
    known.touch(id);
    if (known.size() > most) known.remove(ChunkId(*known.oldest()));
  }
  void ended(const Status& status) {
    // So many handoffs as there may be: this node's own bound says nothing of the peer.
    if (status.code() == Code::kResourceExhausted) return;
    // What the peer says of a chunk is no trouble of the peer's.
    const bool answered = status.ok() || status.code() == Code::kExists ||
                          status.code() == Code::kNotFound || status.code() == Code::kRefused ||
                          status.code() == Code::kChecksum || status.code() == Code::kCancelled;
    if (answered) {
      if (!trouble.empty()) log::info("node answers again peer={}", peer);
      trouble.clear();
      return breaker.succeeded();
    }
    if (trouble.empty())
      log::warn("node does not answer peer={} why=\"{}\"", peer, status.message());
    trouble = status.message();
    breaker.failed(now());
  }
  void settle() {
    if (closed && stores == 0 && reads == 0 && finds == 0) std::exchange(closed, nullptr)();
  }

  const std::string peer;
  scheduler::Breaker breaker;
  const size_t most;
  scheduler::LruOrder<ChunkId> known;  // to be there
  uint32_t stores = 0, reads = 0, finds = 0;
  std::string trouble;
  bool closing = false;
  std::function<void()> closed;
};

class NodeTier::Reading final : public Tier::Read {
 public:
  explicit Reading(std::weak_ptr<Keeping> keeping) : keeping_(std::move(keeping)) {}
  ~Reading() override {
    if (const auto keeping = keeping_.lock()) keeping->end();
  }

 private:
  const std::weak_ptr<Keeping> keeping_;
};

NodeTier::NodeTier(boost::asio::io_context& io, Neighbours& neighbours, Config config)
    : io_(io),
      neighbours_(neighbours),
      config_(std::move(config)),
      state_(std::make_shared<State>(config_)) {}

NodeTier::~NodeTier() = default;

Tier::Presence NodeTier::presence(const ChunkId& id) const {
  if (state_->closing || state_->breaker.state(now()) == scheduler::Breaker::State::kOpen)
    return Presence::kAbsent;
  return state_->known.contains(id) ? Presence::kHeld : Presence::kUnknown;
}

void NodeTier::find(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline,
                    OnPresent done) {
  const size_t asked = ids.size();
  if (state_->closing || !state_->breaker.allows(now())) {
    return boost::asio::post(
        io_, [done = std::move(done), asked] { done(std::vector<bool>(asked, false)); });
  }
  ++state_->finds;
  neighbours_.look_up(
      config_.peer, origin.tenant, ids, deadline,
      [state = state_, ids, done = std::move(done)](Result<std::vector<bool>> found) {
        --state->finds;
        state->ended(found.status());
        std::vector<bool> present(ids.size(), false);
        if (found.ok()) present = std::move(found).value();
        present.resize(ids.size(), false);
        for (size_t i = 0; i < ids.size(); ++i)
          present[i] ? state->remember(ids[i]) : void(state->known.remove(ids[i]));
        done(std::move(present));
        state->settle();
      });
}

void NodeTier::store(Chunk chunk, TimePoint deadline, OnDone done) {
  Status refused;
  if (state_->closing)
    refused = Status(Code::kUnavailable, "the node is shutting down");
  else if (state_->stores >= config_.max_under_way)
    refused = Status(Code::kResourceExhausted,
                     "as many chunks as may be are on their way to " + state_->peer + " already");
  else if (!config_.writes || !state_->breaker.allows(now()))
    refused = Status(Code::kUnavailable, "node " + state_->peer + " is not given chunks now");
  if (!refused.ok())
    return boost::asio::post(io_, [done = std::move(done), refused] { done(refused); });
  ++state_->stores;
  const ChunkId id = chunk.id;
  neighbours_.send_chunk(config_.peer, std::move(chunk), deadline,
                         [state = state_, id, done = std::move(done)](const Status& status) {
                           --state->stores;
                           state->ended(status);
                           if (status.ok()) state->remember(id);
                           done(status);
                           state->settle();
                         });
}

std::unique_ptr<Tier::Read> NodeTier::read(TierReadRequest request, OnLayer on_layer, OnRead done) {
  const ChunkId id = request.id;
  const auto over = [state = state_, id, done](Result<Chunk> chunk) {
    state->ended(chunk.status());
    if (!chunk.ok()) state->known.remove(id);
    done(std::move(chunk));
  };
  Result<std::shared_ptr<Keeping>> keeping =
      Status(Code::kResourceExhausted,
             "as many chunks as may be are asked of " + state_->peer + " already");
  if (state_->closing) {
    keeping = Status(Code::kUnavailable, "the node is shutting down");
  } else if (state_->reads < config_.max_under_way) {
    // Counted until the handoff is gone, also where nobody reads any more.
    const auto counted = std::shared_ptr<void>(nullptr, [state = state_](void*) {
      --state->reads;
      state->settle();
    });
    ++state_->reads;
    keeping = neighbours_.fetch_chunk(
        config_.peer, {std::move(request), std::move(on_layer), over, std::move(counted)});
  }
  if (keeping.ok()) return std::make_unique<Reading>(*keeping);
  auto alive = std::make_shared<int>(0);
  struct Refused final : Read {
    std::shared_ptr<int> alive;
  };
  auto refused = std::make_unique<Refused>();
  boost::asio::post(
      io_, [weak = std::weak_ptr(alive), done = std::move(done), status = keeping.status()] {
        if (weak.lock()) done(status);
      });
  refused->alive = std::move(alive);
  return refused;
}

void NodeTier::erase(ChunkOrigin, std::vector<ChunkId> ids, OnDone done) {
  for (const ChunkId& id : ids) state_->known.remove(id);
  boost::asio::post(io_, [done = std::move(done)] { done(ok_status()); });
}

void NodeTier::clear(ChunkFilter, bool dry_run, OnCount done) {
  if (!dry_run) state_->known = {};
  boost::asio::post(io_, [done = std::move(done)] { done(ChunkCount{}); });
}

TierReport NodeTier::report() const {
  return {.stores = state_->stores,
          .reads = state_->reads,
          .available = state_->breaker.state(now()) != scheduler::Breaker::State::kOpen,
          .trouble = state_->trouble};
}

// The node ends its handoffs itself; they are counted until they have.
void NodeTier::close(TimePoint, std::function<void()> closed) {
  state_->closing = true;
  boost::asio::post(io_, [state = state_, closed = std::move(closed)]() mutable {
    state->closed = std::move(closed);
    state->settle();
  });
}

}  // namespace baton
