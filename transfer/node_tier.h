// What another node keeps, as a tier of this one: a store, which is given chunks and asked for
// them, or a peer, which is only asked.
//
// A look-up is a LOOKUP, a read a FETCH of one chunk, a store a handoff of one chunk; they take the
// control connection and the channel that the two nodes have. The other node answers out of its own
// tiers and asks nobody further, so there is one hop and no loop.
//
// Internal to transfer/; confined to the progress thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>

#include "scheduler/breaker.h"
#include "scheduler/eviction.h"
#include "transfer/base/address.h"
#include "transfer/keeping.h"
#include "transfer/tiers/tier.h"

namespace baton {

class NodeTier final : public Tier {
 public:
  // What it asks of its own node.
  class Neighbours {
   public:
    virtual ~Neighbours() = default;
    // One bit a chunk; an error where the peer could not be asked.
    using OnFound = std::function<void(Result<std::vector<bool>>)>;
    virtual void look_up(const HostPort& peer, TenantId tenant, std::vector<ChunkId> ids,
                         TimePoint deadline, OnFound done) = 0;
    virtual Result<std::shared_ptr<Keeping>> fetch_chunk(const HostPort& peer,
                                                         Keeping::Wanted wanted) = 0;
    virtual void send_chunk(const HostPort& peer, Chunk chunk, TimePoint deadline, OnDone done) = 0;
  };

  struct Config {
    HostPort peer;
    bool writes = true;                // false: it is asked, and given nothing
    uint32_t max_under_way = 64;       // stores and reads, each
    size_t max_remembered = 1u << 16;  // chunks that it is known to have
    // Each call that it does not answer costs a request the time until its deadline.
    scheduler::Breaker::Config breaker{.failures = 2};
  };
  NodeTier(boost::asio::io_context& io, Neighbours& neighbours, Config config);
  ~NodeTier() override;

  const char* name() const override { return config_.writes ? "store" : "peer"; }
  bool elsewhere() const override { return true; }
  Presence presence(const ChunkId& id) const override;
  void find(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline,
            OnPresent done) override;
  void store(Chunk chunk, TimePoint deadline, OnDone done) override;
  std::unique_ptr<Read> read(TierReadRequest request, OnLayer on_layer, OnRead done) override;
  // What another node keeps is its own to drop: both forget here alone.
  void erase(ChunkOrigin origin, std::vector<ChunkId> ids, OnDone done) override;
  void clear(ChunkFilter filter, bool dry_run, OnCount done) override;
  TierReport report() const override;
  void close(TimePoint deadline, std::function<void()> closed) override;

 private:
  class Reading;
  struct State;

  boost::asio::io_context& io_;
  Neighbours& neighbours_;
  const Config config_;
  const std::shared_ptr<State> state_;  // outlives calls under way
};

}  // namespace baton
