// One handoff that this node's tiers receive: chunks into slots of the retained arena.
//
// Two ways: a store takes what a peer offers, and keeps each chunk that has come whole; or one
// chunk is asked of a holder by FETCH, for whoever reads it (node_tier.h). No engine has a part in
// either.
//
// Internal to transfer/; confined to the progress thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "transfer/node_core.h"
#include "transfer/receiver.h"
#include "transfer/tiers/tier.h"

namespace baton {

class Keeping final : public Receiver, public std::enable_shared_from_this<Keeping> {
 public:
  using OnGone = std::function<void(Keeping&)>;
  // Of what a peer offers.
  Keeping(NodeCore& core, HandoffAttempt handoff, OnGone on_gone);

  // One chunk by FETCH; `done` is called once, unless end() was.
  struct Wanted {
    TierReadRequest what;
    Tier::OnLayer on_layer;
    Tier::OnRead done;
    std::shared_ptr<void> held;  // kept until nothing is left of it
  };
  void fetch(Wanted wanted);
  void connected(Result<std::shared_ptr<PeerLink>> link);
  // Nobody wants it any more: no callback comes.
  void end();

  // --- Receiver
  const protocol::ReceiverHandoff& machine() const override { return machine_; }
  const PeerLink* link() const override { return link_.get(); }
  bool claimed() const override { return true; }
  void on_message(const std::shared_ptr<PeerLink>& link, const protocol::Message& message) override;
  std::variant<ChannelEvents::Otherwise, SegmentPlace> place(const SegmentHeader& header) override;
  void on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) override;
  void on_segment(const SegmentHeader& header, ReceivedBytes payload) override;
  void peer_lost(const Status& why) override;
  void fail(Status why) override;
  void shutdown(const Status& why) override { fail(why); }

 private:
  // A chunk as it comes: what is not in the host tier already.
  struct Coming {
    Chunk chunk;
    uint32_t layers = 0;                // verified
    HostTier::Reservation reservation;  // of its slot, until the host tier has the chunk
  };

  protocol::Expectation expectation_of(const protocol::Offer& offer) const;
  void accept();
  Status prepare(uint32_t chunk);
  KvSegment target(const protocol::SegmentId& id);
  bool wanted(const SegmentHeader& header);
  void came(const SegmentHeader& header, const Result<Checksum>& checksum);
  void apply(protocol::Effects effects);
  void ended(protocol::End end, const Status& why);
  void settle();
  void arm_timer();

  NodeCore& core_;
  OnGone on_gone_;
  protocol::ReceiverHandoff machine_;
  std::optional<Wanted> wanted_;  // a FETCH, as long as somebody waits for it
  bool fetches_ = false;
  std::optional<Chunk> fetched_;  // it came whole
  std::shared_ptr<void> held_;
  std::shared_ptr<PeerLink> link_;
  std::vector<protocol::Message> outbox_;
  boost::asio::steady_timer timer_;
  const uint64_t begun_;                              // Tiers::forgotten() at the time
  std::unordered_map<uint32_t, Coming> coming_;       // by chunk
  std::vector<HostTier::Pin> pins_;                   // what is held already, until the end
  std::unordered_map<uint32_t, SlotWriter> writers_;  // by segment: what may write for it
  ChunkOrigin origin_;
  bool quiet_ = false;
  bool gone_ = false;
  std::optional<protocol::End> end_;
};

}  // namespace baton
