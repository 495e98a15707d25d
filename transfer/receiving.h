// One handoff that this node receives: the state machine, the engine's blocks, what came by the
// channel and what the host tier had.
//
// Made by the engine's session or by the peer's QUEUED or OFFER, whichever comes first. Internal to
// transfer/; confined to the progress thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "transfer/node_core.h"
#include "transfer/peer_link.h"
#include "transfer/receive_feed.h"
#include "transfer/receiver.h"
#include "transfer/tier_load.h"

namespace baton {

struct ReceiveRequest {
  HandoffAttempt handoff;
  protocol::Flow flow = protocol::Flow::kPush;
  TimePoint deadline;
  uint32_t tokens = 0;
  std::vector<ChunkKey> keys;
  TenantId tenant = 0;  // whose they are
  std::string from;     // the sender's node, for texts; empty: not named
};

class Receiving final : public Receiver, public std::enable_shared_from_this<Receiving> {
 public:
  using OnGone = std::function<void(Receiving&)>;
  Receiving(NodeCore& core, HandoffAttempt handoff, OnGone on_gone);

  const protocol::ReceiverHandoff& machine() const override { return machine_; }
  const PeerLink* link() const override { return link_.get(); }
  bool claimed() const override { return feed_ != nullptr; }
  TenantId tenant() const { return request_.tenant; }

  // The engine's session takes it.
  void claim(ReceiveRequest request, std::shared_ptr<ReceiveFeed> feed,
             std::function<void()> on_released);
  // FETCH: the holder is connected, or cannot be.
  void connected(Result<std::shared_ptr<PeerLink>> link);
  // FETCH of what this node's own tiers keep: the leading chunks of the prompt are the offer, those
  // of the host tier pinned.
  void offer_held(std::vector<Tiers::Held> chunks);
  void on_feed();
  void on_message(const std::shared_ptr<PeerLink>& link, const protocol::Message& message) override;
  std::variant<ChannelEvents::Otherwise, SegmentPlace> place(const SegmentHeader& header) override;
  void on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) override;
  void on_segment(const SegmentHeader& header, ReceivedBytes payload) override;
  void peer_lost(const Status& why) override;
  // The sender failed, as somebody who knows says, or this side did (a copy, the node's end).
  void fail(Status why) override;
  void abort(Status why);
  // The node stops: the session is taken for over.
  void shutdown(const Status& why) override;

 private:
  struct LocalLoad {
    HostTier::Pin pin;
    uint32_t chunk = 0;
    uint32_t layer = 0;  // next to copy
  };
  struct Retain {
    SlotRef slot;
    HostTier::Reservation reservation;  // of the slot, until the tier has the chunk
    std::vector<Checksum> checksums;
    uint32_t layers = 0;
  };

  uint32_t layers() const { return static_cast<uint32_t>(core_.config.kv.layer_base.size()); }
  ChunkId chunk_id(uint32_t chunk) const { return {machine_.offer()->keys[chunk], 0, 0}; }
  KvSegment target(const protocol::SegmentId& id) const;
  uint32_t first_wanted_token(uint32_t chunk) const;
  void begin_accept();
  void load_next();
  void loaded(LocalLoad load, const Result<Checksum>& checksum);
  void accept();
  void load_from_below();
  void came_from_below(uint32_t chunk, const Chunk& what, uint32_t layer, ReceivedBytes bytes);
  void scatter(const SegmentHeader& header, PayloadOrder order, ReceivedBytes payload,
               NodeMetrics::Copy why);
  bool wanted(const SegmentHeader& header);
  void record_copy(const SegmentHeader& header, TimePoint began) const;
  void verify(const SegmentHeader& header, Checksum checksum);
  void scatter_failed(const SegmentHeader& header, const Status& why);
  void came(const SegmentHeader& header, bool verified);
  void retain(uint32_t segment, Checksum checksum);
  void retained(uint32_t segment, Checksum expected, const Result<Checksum>& checksum);
  void apply(protocol::Effects effects);
  void ended(protocol::End end, const Status& why);
  uint32_t leading_tokens() const;
  std::optional<double> share_of_bound() const;
  void settle();
  void arm_timer();
  void publish_state(LoadState state, uint32_t tokens, Status why);
  HandoffReport report() const;

  NodeCore& core_;
  OnGone on_gone_;
  protocol::ReceiverHandoff machine_;
  ReceiveRequest request_;
  std::shared_ptr<ReceiveFeed> feed_;  // null: nobody has claimed it yet
  std::function<void()> on_released_;
  std::shared_ptr<PeerLink> link_;
  std::vector<protocol::Message> outbox_;
  boost::asio::steady_timer timer_;
  const uint64_t begun_;  // Tiers::forgotten() at the time

  std::vector<uint32_t> blocks_;
  uint32_t held_tokens_ = 0;
  bool accepting_ = false;  // the engine accepted; the host tier's chunks are being copied
  std::deque<LocalLoad> local_loads_;
  std::vector<bool> held_chunks_;
  uint32_t local_copies_ = 0;  // under way: tier loads and retaining
  std::vector<HostTier::Pin> pins_;
  std::shared_ptr<TierLoad> load_;  // of what lies below the host tier
  std::vector<bool> layer_told_;
  std::unordered_map<uint32_t, Retain> retains_;       // by chunk
  std::unordered_map<uint32_t, TimePoint> placed_at_;  // by segment; for the timeline alone

  bool own_ = false;           // FETCH of this node's own tiers: there is no peer
  bool spoilt_ = false;        // the host tier had what does not verify
  bool session_over_ = false;  // done or aborted: the engine polls no more
  bool settled_ = false;       // kLoaded or kFailed was told
  bool gone_ = false;
  bool quiet_ = false;
  std::optional<protocol::End> end_;
  Status why_;
  std::string transport_;

  TimePoint created_at_;
  TimePoint contacted_at_{};
  TimePoint offer_came_at_{};  // from the peer
  TimePoint offered_at_{};     // to the engine
  TimePoint ended_at_{};
  TimePoint copied_at_{};    // the last copy's end
  Duration copy_time_{};     // while at least one was under way
  uint64_t compute_us_ = 0;  // as the sender's last SENT says
  uint64_t goodput_ = 0;
};

}  // namespace baton
