// What a node has of one kind of channel: it listens, or has an address, says so in our HELLO, and
// opens channels to peers that have the same kind. channels.h decides which kind is used with whom.
//
// All calls and callbacks happen on the node's progress thread; callbacks never run inside a call.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "transfer/channel.h"
#include "transfer/channel_sessions.h"
#include "transfer/protocol/messages.h"
#include "transfer/staging_queue.h"

namespace boost::asio {
class io_context;
}

namespace baton {

// The node's memory as its channels see it.
struct ChannelMemory {
  // Wakes the queue whenever a transit slot becomes free: once for each pool. Either may be null:
  // then nothing is lent, or nothing can be published from slots.
  static ChannelMemory create(boost::asio::io_context& io, std::shared_ptr<SlotPool> transit,
                              std::shared_ptr<SlotPool> retained);

  std::shared_ptr<SlotPool> transit;
  std::shared_ptr<SlotPool> retained;
  std::shared_ptr<StagingQueue> queue;  // who waits for transit memory
};

// Who this node is to the peers of its channels: they show the nonce of our HELLO, name both lives,
// and prove that they were let in. `label` is one for each kind and role, such as "local dialler".
//
// An endpoint puts prove() into each greeting, and before anything else is believed or sent asks
// verify() of each greeting that it gets. A listening one asks when it has both the greeting and
// the open() for that peer: until then the session may not have begun here. A greeting that does
// not verify is closed; the open() goes on waiting for the right one.
struct ChannelIdentity {
  Incarnation self;
  uint64_t nonce = 0;
  std::shared_ptr<const ChannelSessions> sessions;  // null: neither token nor TLS

  // For our greeting to the peer that said `to`.
  ChannelProof prove(std::string_view label, const protocol::Hello& to) const;
  // Of a greeting by `from`. Without sessions only zeros verify.
  bool verify(const ChannelProof& proof, std::string_view label, Incarnation from) const;
};

class ChannelEndpoint {
 public:
  virtual ~ChannelEndpoint() = default;

  // "local", "tcp", "ucx": what --channel calls it.
  virtual std::string_view name() const = 0;
  // Adds to our HELLO what a peer needs to open such a channel to us.
  virtual void describe(protocol::Hello& hello) const = 0;
  // Whether the peer's HELLO says that it has this kind.
  virtual bool offered(const protocol::Hello& peer) const = 0;

  // Opens the channel to the peer that said `peer`. Exactly one side dials: the one that dialled
  // the control connection. `done` runs once, within the kind's open deadline. Errors: kUnavailable
  // where the peer cannot be reached in this way, kRefused (wrong nonce or life),
  // kDeadlineExceeded. `events` must outlive the channel.
  using OpenDone = std::function<void(Result<std::unique_ptr<Channel>>)>;
  virtual void open(const protocol::Hello& peer, bool dial, ChannelEvents& events,
                    OpenDone done) = 0;

  // Whoever wants the channel is gone: an open() with these events that still runs ends now, with
  // kCancelled, and what it dialled is closed, so that the peer does not take it for the next one.
  virtual void give_up(const ChannelEvents& events) = 0;

  // Closes what is open, fails what is opening; idempotent.
  virtual void stop() = 0;
};

}  // namespace baton
