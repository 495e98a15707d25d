// What has been seen of the service: which chunks it holds and which it does not, of a bounded
// number of them and for a bounded time.
//
// A value without a clock. Externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "scheduler/eviction.h"
#include "transfer/base/clock.h"
#include "transfer/tiers/tier.h"

namespace baton::s3 {

class KnownChunks {
 public:
  KnownChunks(size_t max_chunks, Duration held_ttl, Duration absent_ttl)
      : max_chunks_(max_chunks), held_ttl_(held_ttl), absent_ttl_(absent_ttl) {}

  Tier::Presence presence(const ChunkId& id, TimePoint now) const;
  void held(const ChunkId& id, uint64_t payload_bytes, TimePoint now);
  void absent(const ChunkId& id, TimePoint now);
  void forget(const ChunkId& id);
  void forget_all();

  // Those believed to be held, as far as they are remembered.
  ChunkCount count() const { return count_; }

 private:
  struct Known {
    bool held = false;
    uint64_t bytes = 0;
    TimePoint until;
  };
  void remember(const ChunkId& id, const Known& known);

  size_t max_chunks_;
  Duration held_ttl_;
  Duration absent_ttl_;
  std::unordered_map<ChunkId, Known> known_;
  scheduler::LruOrder<ChunkId> order_;
  ChunkCount count_;
};

}  // namespace baton::s3
