// One handoff that this node sends: the state machine, what is computed, where it was gathered.
//
// A session's handoff gathers from the engine's blocks: retained chunks at once into a slot that
// goes to the host tier when it is whole; transient ones within the window into staging memory of
// the channel. A FETCH's handoff sends what the tier holds. Internal to transfer/; confined to the
// progress thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "transfer/node_core.h"
#include "transfer/peer_link.h"
#include "transfer/send_feed.h"
#include "transfer/tier_load.h"

namespace baton {

struct SendRequest {
  HandoffAttempt handoff;
  TimePoint deadline;
  uint32_t tokens = 0;
  std::vector<ChunkKey> keys;  // of all chunks
  TenantId tenant = 0;         // whose they are
  bool with_peer = true;       // false: two-step flow, chunks are only retained
  Duration lease{};            // without a peer: how long they are held for a FETCH
};

class Sending : public std::enable_shared_from_this<Sending> {
 public:
  // `on_gone` is called once, when nothing is left to do for this handoff.
  using OnGone = std::function<void(Sending&)>;

  // For a prefill session.
  Sending(NodeCore& core, SendRequest request, std::shared_ptr<SendFeed> feed,
          std::function<void()> on_released, OnGone on_gone);
  // For a FETCH, whose request names no keys: hold() says what there is to send.
  Sending(NodeCore& core, SendRequest request, OnGone on_gone);

  const HandoffAttempt& handoff() const { return request_.handoff; }
  HandoffRole role() const { return machine_ ? HandoffRole::kSender : HandoffRole::kHolder; }
  void start();  // QUEUED; for a FETCH only where hold() comes later
  // FETCH: the leading chunks of what was asked for, pinned in the host tier; none: it fails.
  void hold(std::vector<HostTier::Pin> chunks);
  // What hold() waits for: it ends with this.
  void loads(std::shared_ptr<TierLoad> load);
  // For a peer that keeps them: these chunks, of one shape.
  void hold(const std::vector<Chunk>& chunks);
  void connected(Result<std::shared_ptr<PeerLink>> link);
  void on_feed();
  void on_message(const protocol::Message& message);
  void peer_lost(const Status& why);
  void abort(protocol::End end, Status why);
  // Two-step flow: somebody has fetched the chunks, nothing need hold them any longer.
  void end_lease();
  // Whether the session is over and what it retains is still being gathered.
  bool retaining() const {
    return session_over_ && (retained_gathers_ != 0 || !gather_queue_.empty());
  }
  // `then` is posted once it is not retaining(), whatever was kept.
  void when_retained(std::function<void()> then) { when_retained_.push_back(std::move(then)); }
  // The node stops: nothing more is gathered, the session is taken for over.
  void shutdown(const Status& why);

  // --- for the link's pump
  // Where the channel takes a segment's bytes from; kStaging: where they are gathered to first.
  enum class Source : uint8_t { kSlot, kBlocks, kStaging };
  // Of the next segment, where one is ready and within the window, and the channel may take it.
  std::optional<Source> next_source(Channel& channel) const;
  uint64_t unacknowledged_bytes() const;
  // Publishes the next segment; false where the channel has no room for it now.
  bool publish_next(Channel& channel);
  uint32_t gathers_for_channel() const { return staging_gathers_; }

  const PeerLink* link() const { return link_.get(); }
  std::optional<protocol::End> end() const { return end_; }
  const Status& why() const { return why_; }
  const protocol::SenderHandoff* machine() const { return machine_ ? &*machine_ : nullptr; }

 private:
  struct ChunkWork {
    ChunkId id;
    uint32_t tokens = 0;
    size_t segment_bytes = 0;
    bool decided = false;               // whether it is retained
    bool whole = false;                 // all layers lie in `slot`
    bool spoilt = false;                // what lies in `slot` is not what was gathered
    SlotRef slot;                       // empty: transient
    HostTier::Reservation reservation;  // of the slot, until the tier has the chunk
    std::vector<Checksum> checksums;    // of the gathered layers
    uint32_t gathered = 0;              // layers
    uint32_t computed = 0;              // layers
  };
  struct Job {
    uint32_t chunk;
    uint32_t layer;
  };

  // For nobody but this node's own tiers: once whole, a chunk need not be held for anybody.
  bool own() const { return !machine_ && request_.lease == Duration::zero(); }
  uint32_t layers() const { return group_.layers; }
  uint32_t segment_index(uint32_t chunk, uint32_t layer) const { return chunk * layers() + layer; }
  void make_chunks();
  void take_shape(const Chunk& chunk);
  void add_blocks(const std::vector<uint32_t>& blocks);
  void give_up(const std::string& why);
  void reject(const std::string& what);
  void offer();
  void take_from_tier(ChunkWork& chunk);
  void computed(uint32_t chunk, uint32_t layer);
  void decide(ChunkWork& chunk);
  void pump();
  void gather_next();
  void gathered(Job job, const Result<Checksum>& checksum);
  void gather_failed(const Status& why);
  bool publish_from_slot(Channel& channel, uint32_t segment, ChunkWork& chunk, uint32_t layer);
  Source source_of(const Channel& channel, uint32_t segment) const;
  SegmentPlace place_of(uint32_t segment) const;
  bool publish_by_staging(Channel& channel, uint32_t segment, ChunkWork& chunk);
  bool send_from_blocks(Channel& channel, uint32_t segment);
  void sent_from_blocks(uint32_t segment, uint64_t bytes, const Status& status);
  bool verifies(const ChunkWork& chunk, uint32_t layer) const;
  void drop_spoilt(uint32_t segment, ChunkWork& chunk, uint32_t layer);
  void staged(uint32_t segment, const Result<Checksum>& checksum, Staging staging, TimePoint began);
  void apply(protocol::Effects effects);
  void ended(protocol::End end, const Status& why);
  bool reads_blocks() const {
    return retained_gathers_ + staging_gathers_ + sends_from_blocks_ != 0;
  }
  bool needs_blocks() const;
  void settle();
  void arm_timer();
  void report();

  NodeCore& core_;
  // What it sends: as this node's engine has it; a store's as the chunks lie there.
  protocol::GroupOffer group_;
  uint32_t chunk_tokens_;
  SendRequest request_;                   // FETCH: keys and tokens from hold() on
  const std::shared_ptr<SendFeed> feed_;  // null for a FETCH
  std::function<void()> on_released_;
  OnGone on_gone_;
  std::optional<protocol::SenderHandoff> machine_;  // none in the two-step flow
  std::shared_ptr<PeerLink> link_;
  std::vector<protocol::Message> outbox_;  // until the peer is connected
  boost::asio::steady_timer timer_;

  const uint64_t begun_;  // Tiers::forgotten() at the time
  std::vector<ChunkWork> chunks_;
  // Of all that goes out of the tier's slots, until the end: evicting it would free no memory.
  std::vector<HostTier::Pin> pins_;
  std::vector<uint32_t> blocks_;
  std::vector<uint32_t> ready_chunks_;  // leading chunks computed, a layer
  std::shared_ptr<TierLoad> load_;      // of a FETCH: brings up what it asks for
  std::deque<Job> gather_queue_;
  std::vector<std::function<void()>> when_retained_;
  uint32_t retained_gathers_ = 0;
  uint32_t staging_gathers_ = 0;
  uint32_t sends_from_blocks_ = 0;  // the channel reads the engine's blocks for these
  bool offered_ = false;
  bool session_over_ = false;  // finished or aborted
  bool aborted_ = false;       // nothing more is gathered
  bool quiet_ = false;
  bool gone_ = false;
  bool fetched_ = false;
  std::optional<TimePoint> lease_until_;  // two-step flow: once the chunks are whole
  std::optional<protocol::End> end_;
  Status why_;
  std::string transport_;

  // Measured for the report and the metrics.
  TimePoint created_at_;
  TimePoint offered_at_{};
  TimePoint computing_since_{};  // the layer that is not ready yet
  TimePoint busy_since_{};
  Duration busy_{};
  Duration gather_time_{};
  Duration compute_{};
};

}  // namespace baton
