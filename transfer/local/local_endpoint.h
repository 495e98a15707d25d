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

#include <memory>
#include <string>

#include "transfer/base/clock.h"
#include "transfer/channel_endpoint.h"

namespace baton::local {

struct LocalConfig {
  Duration open_deadline = std::chrono::seconds(2);
  uint32_t max_published = 4096;  // of one channel, not yet consumed by the peer
  // Of these in staging memory, but always two segments (what a copier is still gathering comes on
  // top). What is copied in here and out there meanwhile should stay in the last cache, through
  // which the two engines' blocks pass as well.
  uint64_t max_staged_bytes = 8u << 20;
};

class LocalEndpoint : public ChannelEndpoint {
 public:
  // Listens at an abstract Unix socket of a random name. Same-user peers only (SO_PEERCRED).
  static Result<std::unique_ptr<LocalEndpoint>> create(boost::asio::io_context& io,
                                                       LocalConfig config, ChannelIdentity identity,
                                                       ChannelMemory memory);

  // For our HELLO.
  virtual const std::string& socket_name() const = 0;
};

}  // namespace baton::local
