// One peer: its control connection, its channel, and the order in which our handoffs' segments go
// to it. Internal to transfer/; confined to the progress thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transfer/channel.h"
#include "transfer/control/control_plane.h"
#include "transfer/node_core.h"

namespace baton {

class PeerLink;
class Sending;

// Who knows which handoff a segment of a peer belongs to. Outlives the links.
class SegmentOwner {
 public:
  virtual ~SegmentOwner() = default;
  // As ChannelEvents has them.
  virtual std::variant<ChannelEvents::Otherwise, SegmentPlace> place(
      PeerLink& link, const SegmentHeader& header) = 0;
  virtual void on_placed(PeerLink& link, const SegmentHeader& header,
                         const Result<Checksum>& checksum) = 0;
  virtual void on_segment(PeerLink& link, const SegmentHeader& header, ReceivedBytes payload) = 0;
};

class PeerLink final : public ChannelEvents, public std::enable_shared_from_this<PeerLink> {
 public:
  PeerLink(NodeCore& core, std::shared_ptr<control::Peer> peer, SegmentOwner& owner);

  // Opens the channel; whoever dialled the control connection dials it.
  void open(Channels& channels);
  // The peer is gone: no callback comes after this.
  void down(const Status& why);

  const std::string& node() const { return peer_->hello().node; }
  control::Peer& peer() { return *peer_; }
  const protocol::Hello& hello() const { return peer_->hello(); }
  const FingerprintDigest& fingerprint() const { return fingerprint_; }
  bool usable() const { return peer_->up() && !peer_->stalled(); }
  void send(const protocol::Message& message) { peer_->send(message); }
  // Null while no channel is open.
  Channel* channel() { return channel_.get(); }

  void add(std::shared_ptr<Sending> sending);
  void remove(const Sending& sending);
  // A handoff ended: what it published and nobody consumed is let go.
  void forget(const HandoffAttempt& handoff);
  // Publishes what may go now; called whenever something became ready or acknowledged.
  void pump();

  // Best payload rate seen lately towards this peer, in bytes a second; 0 before there was one.
  double best_goodput() const { return best_goodput_; }
  void measured(uint64_t bytes, Duration busy);

  // --- ChannelEvents
  std::variant<Otherwise, SegmentPlace> place(const SegmentHeader& header) override;
  void on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) override;
  void on_segment(const SegmentHeader& header, ReceivedBytes payload) override;
  void on_staging() override;
  void on_channel_closed(const Status& why) override;

 private:
  struct Sender {
    std::shared_ptr<Sending> sending;
    uint64_t last_sent = 0;  // sequence number
  };

  void opened(Result<std::unique_ptr<Channel>> channel);
  Sender* pick(bool staging);

  NodeCore& core_;
  const std::shared_ptr<control::Peer> peer_;
  const FingerprintDigest fingerprint_;  // the peer's
  SegmentOwner& owner_;
  std::unique_ptr<ChannelEvents> decorated_events_;
  std::function<void()> give_up_;  // while the channel is being opened
  std::unique_ptr<Channel> channel_;
  Status no_channel_;  // why opening failed
  bool down_ = false;
  std::vector<Sender> senders_;
  uint64_t sends_ = 0;
  double best_goodput_ = 0;
};

}  // namespace baton
