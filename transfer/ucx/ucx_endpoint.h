// The UCX channel's end at one node: active messages between two UCP workers, over whatever UCX
// finds between the two hosts (RDMA, TCP). README.md says how, and why.
//
// The listener's port travels in HELLO. Whoever dials shows, in its first message, the nonce of the
// other's HELLO and both lives; messages of anybody else are dropped and counted.
//
// Confined to the io_context's thread, callbacks too; none runs inside a call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transfer/channel_endpoint.h"
#include "transfer/ucx/ucx_config.h"

namespace baton::ucx {

// Whether this build has UCX.
bool available();

class UcxEndpoint : public ChannelEndpoint {
 public:
  // Listens at `host`. Errors: kUnavailable where this build has no UCX, or UCX has none of
  // `transports`; kInvalidArgument naming the option.
  static Result<std::unique_ptr<UcxEndpoint>> create(boost::asio::io_context& io, UcxConfig config,
                                                     const std::string& host,
                                                     ChannelIdentity identity,
                                                     ChannelMemory memory);

  // Between hosts, as UCX names them: "rc_mlx5", "tcp".
  virtual const std::vector<std::string>& transports() const = 0;
  // Whether one of them is RDMA: then this channel is worth choosing by itself.
  virtual bool has_rdma() const = 0;
  // Messages of peers that nobody let in, and what is no message of ours.
  virtual uint64_t dropped() const = 0;
};

}  // namespace baton::ucx
