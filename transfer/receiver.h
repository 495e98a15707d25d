// A handoff that this node receives, as its routing sees it: into an engine's blocks (receiving.h)
// or into slots that are kept (keeping.h).
//
// Internal to transfer/; confined to the progress thread.
#pragma once

#include <memory>
#include <variant>

#include "transfer/channel.h"
#include "transfer/peer_link.h"
#include "transfer/protocol/receiver_handoff.h"

namespace baton {

class Receiver {
 public:
  virtual ~Receiver() = default;
  virtual const protocol::ReceiverHandoff& machine() const = 0;
  const HandoffAttempt& handoff() const { return machine().handoff(); }
  virtual const PeerLink* link() const = 0;
  // Whether somebody here wants it.
  virtual bool claimed() const = 0;

  virtual void on_message(const std::shared_ptr<PeerLink>& link,
                          const protocol::Message& message) = 0;
  // As ChannelEvents has them.
  virtual std::variant<ChannelEvents::Otherwise, SegmentPlace> place(
      const SegmentHeader& header) = 0;
  virtual void on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) = 0;
  virtual void on_segment(const SegmentHeader& header, ReceivedBytes payload) = 0;
  virtual void peer_lost(const Status& why) = 0;
  // The sender failed, as somebody who knows says, or this side did (a copy, the node's end).
  virtual void fail(Status why) = 0;
  // The node stops: what was wanted is wanted no more.
  virtual void shutdown(const Status& why) = 0;
};

}  // namespace baton
