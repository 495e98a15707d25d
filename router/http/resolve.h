// From a host and port to endpoints (internal to router/http).
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <optional>

#include "transfer/base/address.h"

namespace baton::http {

// The endpoint of a numeric host; nothing where the host is a name.
std::optional<boost::asio::ip::tcp::endpoint> numeric_endpoint(const HostPort& address);

// Resolves names too, blocking. Errors: kInvalidArgument.
Result<boost::asio::ip::tcp::endpoint> resolve_now(const HostPort& address);

}  // namespace baton::http
