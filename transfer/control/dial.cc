#include "transfer/control/dial.h"

#include <boost/asio/connect.hpp>
#include <vector>

namespace baton::control {

using boost::asio::ip::tcp;
using boost::system::error_code;

std::shared_ptr<Dial> Dial::start(boost::asio::io_context& io, const HostPort& address, Done done) {
  auto dial = std::make_shared<Dial>(io);
  dial->address_ = address;
  dial->done_ = std::move(done);
  error_code not_numeric;
  const auto numeric = boost::asio::ip::make_address(address.host, not_numeric);
  if (!not_numeric) {
    dial->try_all({tcp::endpoint(numeric, address.port)});
    return dial;
  }
  dial->resolver_.async_resolve(
      address.host, std::to_string(address.port), tcp::resolver::numeric_service,
      [dial](const error_code& error, const tcp::resolver::results_type& found) {
        if (!dial->done_) return;
        if (error) return dial->finish(error);
        std::vector<tcp::endpoint> endpoints;
        for (const auto& entry : found) endpoints.push_back(entry.endpoint());
        dial->try_all(endpoints);
      });
  return dial;
}

void Dial::try_all(const std::vector<tcp::endpoint>& endpoints) {
  boost::asio::async_connect(
      socket_, endpoints,
      [self = shared_from_this()](const error_code& error, const tcp::endpoint&) {
        self->finish(error);
      });
}

void Dial::finish(const error_code& error) {
  const Done done = std::exchange(done_, nullptr);
  if (!done) return;
  if (error) {
    return done(
        Status(Code::kUnavailable, address_.to_string() + ": " + error.message(), error.value()));
  }
  done(std::move(socket_));
}

void Dial::cancel() {
  done_ = nullptr;
  resolver_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace baton::control
