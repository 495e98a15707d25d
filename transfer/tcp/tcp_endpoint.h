// The tcp channel's end at one node: accepts lanes at a port of its own, dials those of peers.
//
// A channel has several connections (lanes). On each the dialling side greets first: it shows the
// nonce of the other's HELLO, both lives, which lane it is and the dialler's number for this
// opening; the other side answers once all lanes of the opening are there and its own open() has
// been called.
//
// Confined to the io_context's thread, callbacks too; none runs inside a call.
#pragma once

#include <memory>

#include "transfer/base/address.h"
#include "transfer/channel_endpoint.h"
#include "transfer/tcp/tcp_config.h"

namespace baton::tcp {

class TcpEndpoint : public ChannelEndpoint {
 public:
  // Listens at `host`, an address of this machine. Errors: kInvalidArgument, kInternal (bind),
  // naming the address.
  static Result<std::unique_ptr<TcpEndpoint>> create(boost::asio::io_context& io, TcpConfig config,
                                                     const std::string& host,
                                                     ChannelIdentity identity,
                                                     ChannelMemory memory);

  virtual uint16_t port() const = 0;  // bound
};

}  // namespace baton::tcp
