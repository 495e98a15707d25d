#include "router/http/resolve.h"

#include <boost/asio/io_context.hpp>

namespace baton::http {

using boost::asio::ip::tcp;

std::optional<tcp::endpoint> numeric_endpoint(const HostPort& address) {
  boost::system::error_code error;
  const auto numeric = boost::asio::ip::make_address(address.host, error);
  if (error) return std::nullopt;
  return tcp::endpoint(numeric, address.port);
}

Result<tcp::endpoint> resolve_now(const HostPort& address) {
  if (const auto numeric = numeric_endpoint(address)) return *numeric;
  boost::asio::io_context context;
  tcp::resolver resolver(context);
  boost::system::error_code error;
  const auto found = resolver.resolve(address.host, std::to_string(address.port), error);
  if (error || found.empty()) {
    return Status(Code::kInvalidArgument,
                  "cannot resolve '" + address.host + "': " + error.message());
  }
  return found.begin()->endpoint();
}

}  // namespace baton::http
