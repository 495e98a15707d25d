// All places where a node keeps chunks, nearest first: the host tier, and those below it (tier.h).
//
// Thread safety: confined to the node's progress thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/base/metrics.h"
#include "transfer/tiers/host_tier.h"
#include "transfer/tiers/tier.h"

namespace baton {

class Tiers {
 public:
  struct Config {
    // Of slots that one tier's stores may refer to at a time, though always one: a slow tier keeps
    // no more of the arena from being used again.
    uint64_t store_bytes = 0;
    uint32_t max_waiting = 4096;  // chunks that wait for that, a tier
    Duration store_deadline = std::chrono::seconds(60);
  };
  // The host tier outlives this.
  Tiers(HostTier& host, Config config, Metrics& metrics);

  void add(std::unique_ptr<Tier> tier);        // below those that are there
  void add_first(std::unique_ptr<Tier> tier);  // right below the host tier
  const std::vector<Tier*>& below() const { return below_; }

  // The chunk has become visible in the host tier: it goes to every tier that has it not, out of
  // the same slot, and is pinned meanwhile: evicting it would free no memory. What has to wait for
  // credit is named by its key alone, and is written where the host tier still has it then.
  void keep(const ChunkId& id);

  // Where a chunk is.
  struct Held {
    ChunkId id;
    HostTier::Pin pin;           // in the host tier; or
    std::vector<Tier*> holders;  // those below that have it, or may, nearest first
  };
  // Whose: all of these tiers, or those that are no other node's.
  enum class Reach : uint8_t { kAll, kThisNode };
  using OnLocated = std::function<void(std::vector<Held>)>;
  // The longest leading run of `ids`, chunks of one KV group and head group, that can be had. Runs
  // `done` inside the call where memory knows, or once the tiers that must ask have, at the latest
  // when `deadline` has passed.
  void locate(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline, Reach reach,
              OnLocated done);
  // What this node keeps means something else from now on. The tiers that are its own are emptied
  // of that model, those that it shares are not asked any more, and none is given anything: only
  // memory, which ends with the process, has what this node alone understands. Returns whether
  // there are shared ones.
  bool forget(const FingerprintDigest& fingerprint);
  // How often that was: what was begun before is not to be kept.
  uint64_t forgotten() const { return forgotten_; }
  // The tiers below that have it, or may.
  std::vector<Tier*> holders(const ChunkId& id, Reach reach) const;

  // Nothing more is begun; `closed` runs when no tier touches a slot any more.
  void close(TimePoint deadline, std::function<void()> closed);

 private:
  // What one tier has to write.
  struct Sink {
    std::unique_ptr<Tier> tier;
    uint64_t bytes = 0;  // of slots that its stores refer to
    std::deque<ChunkId> waiting;
    prometheus::Counter* skipped = nullptr;
  };
  struct Search;

  std::unique_ptr<Sink> sink_of(std::unique_ptr<Tier> tier);

  bool has_credit(const Sink& sink, uint64_t bytes) const;
  void store(Sink& sink, HostTier::Pin chunk);
  void store_waiting(Sink& sink);
  std::vector<Tier*> within(Reach reach) const;
  std::vector<Held> run_of(Search& search);

  HostTier& host_;
  const Config config_;
  Metrics& metrics_;
  std::vector<std::unique_ptr<Sink>> sinks_;
  std::vector<Tier*> below_;
  bool closing_ = false;
  uint64_t forgotten_ = 0;
};

}  // namespace baton
