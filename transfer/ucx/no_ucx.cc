// Stands for ucx_endpoint.cc in builds without UCX.
#include "transfer/ucx/ucx_endpoint.h"

namespace baton::ucx {

bool available() { return false; }

Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::create(boost::asio::io_context&, UcxConfig,
                                                         const std::string&, ChannelIdentity,
                                                         ChannelMemory) {
  return Status(
      Code::kUnavailable,
      "channel ucx: this build has no UCX (libucx-dev was not there when it was configured)");
}

}  // namespace baton::ucx
