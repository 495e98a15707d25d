// Chunks that are read from the tiers below the host's: into slots of the retained arena, layer by
// layer, and into the host tier once they are whole.
//
// To whoever consumes the layers they come as segments come from a channel: a load is a handoff
// whose sender is a tier. A chunk that its nearest holder does not give is asked of the next.
//
// Internal to transfer/; confined to the progress thread.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "transfer/channel.h"
#include "transfer/node_core.h"
#include "transfer/tiers/tier.h"

namespace baton {

class TierLoad : public std::enable_shared_from_this<TierLoad> {
 public:
  struct Wanted {
    uint32_t chunk = 0;  // the consumer's number for it
    ChunkId id;
    uint32_t tokens = 0;
    uint32_t layers = 0;
    uint64_t segment_bytes = 0;
    std::vector<Tier*> holders;  // nearest first
  };
  // A layer is there; layers of a chunk come again where a second holder is asked. The bytes stay
  // readable until they are let go of.
  using OnLayer =
      std::function<void(uint32_t chunk, const Chunk& what, uint32_t layer, ReceivedBytes)>;
  // Every chunk was read, or why one was not; then nothing more is read. Not called by cancel().
  using OnDone = std::function<void(const Status&)>;

  // `on_layer` may be empty: the chunks are then wanted in the host tier alone. Neither callback
  // runs inside start(). It lives until it has ended.
  static std::shared_ptr<TierLoad> start(NodeCore& core, ChunkOrigin origin,
                                         std::vector<Wanted> wanted, TimePoint deadline,
                                         OnLayer on_layer, OnDone done);
  ~TierLoad();

  void cancel();
  // Of the chunks that were read so far and that the host tier keeps.
  std::vector<HostTier::Pin> take_pins() { return std::move(pins_); }

 private:
  struct Reading {
    Wanted wanted;
    std::unique_ptr<Tier::Read> read;
    SlotRef slot;
    HostTier::Reservation reservation;  // of the slot, until the host tier has the chunk
  };

  TierLoad(NodeCore& core, ChunkOrigin origin, std::vector<Wanted> wanted, TimePoint deadline,
           OnLayer on_layer, OnDone done);
  void pump();
  void read(Wanted wanted, NodeCore::RetainedSlot slot);
  void layer_came(uint32_t chunk, const Chunk& what, uint32_t layer);
  void ended(Reading* reading, Result<Chunk> chunk);
  void admit(const Chunk& chunk);
  void finish(const Status& status);

  NodeCore& core_;
  const ChunkOrigin origin_;
  std::deque<Wanted> wanted_;  // not begun
  const TimePoint deadline_;
  const uint64_t begun_;  // Tiers::forgotten() at the time
  OnLayer on_layer_;
  OnDone done_;  // empty once it was called, or may not be any more
  std::vector<std::unique_ptr<Reading>> readings_;
  std::vector<HostTier::Pin> pins_;
  uint32_t lent_ = 0;               // layers that the consumer has not let go of
  std::shared_ptr<TierLoad> self_;  // until it has ended
};

}  // namespace baton
