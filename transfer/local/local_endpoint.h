// The local channel's end at one node: shared memory between two processes of a host.
//
// The sender owns the memory. Each node has two slot pools on sealed memfds: transit (one segment a
// slot, lent to transient sends) and retained (one chunk a slot). Over an abstract Unix socket
// named in HELLO the two sides pass each other their memfds (SCM_RIGHTS), map them read-only, and
// say which bytes were published and which were consumed. Nobody ever writes another process's
// memory.
//
// Confined to the io_context's thread, callbacks too; none runs inside a call.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "transfer/base/clock.h"
#include "transfer/channel.h"
#include "transfer/protocol/messages.h"

namespace boost::asio {
class io_context;
}

namespace baton::local {

struct LocalConfig {
  Duration open_deadline = std::chrono::seconds(2);
  uint32_t max_published = 4096;  // of one channel, not yet consumed by the peer
};

class LocalEndpoint {
 public:
  // Listens at an abstract Unix socket of a random name. `transit` and `retained` may be null (then
  // nothing is lent, or nothing can be published from slots). Same-user peers only (SO_PEERCRED).
  static Result<std::unique_ptr<LocalEndpoint>> create(boost::asio::io_context& io,
                                                       LocalConfig config, Incarnation self,
                                                       std::shared_ptr<SlotPool> transit,
                                                       std::shared_ptr<SlotPool> retained);
  virtual ~LocalEndpoint() = default;

  // For our HELLO.
  virtual const std::string& socket_name() const = 0;
  virtual uint64_t nonce() const = 0;

  // Opens the channel to the peer that said `hello`. Exactly one side dials: the one that dialled
  // the control connection. `done` runs once, within the deadline. Errors: kUnavailable where the
  // socket cannot be connected to (another host or network namespace), kRefused (wrong nonce or
  // incarnation), kDeadlineExceeded. `events` must outlive the channel.
  virtual void open(const protocol::Hello& hello, bool dial, ChannelEvents& events,
                    std::function<void(Result<std::unique_ptr<Channel>>)> done) = 0;

  // Whoever wants the channel is gone: an open() with these events that still runs ends now, with
  // kCancelled, and what it dialled is closed, so that the peer does not take it for the next one.
  virtual void give_up(const ChannelEvents& events) = 0;

  virtual void stop() = 0;
};

}  // namespace baton::local
