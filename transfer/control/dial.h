// One attempt to open a TCP connection: the name resolved, then each address tried in turn.
//
// Confined to the io_context's thread; names are resolved on a thread of Asio's own, so that a slow
// name server holds up nobody.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>

#include "transfer/base/address.h"
#include "transfer/base/status.h"

namespace baton::control {

class Dial : public std::enable_shared_from_this<Dial> {
 public:
  using Done = std::function<void(Result<boost::asio::ip::tcp::socket>)>;

  // `done` runs once, never inside this call: kUnavailable where no address answers. The caller
  // keeps the time.
  static std::shared_ptr<Dial> start(boost::asio::io_context& io, const HostPort& address,
                                     Done done);
  // `done` is dropped and not called any more.
  void cancel();

  // For start() only.
  explicit Dial(boost::asio::io_context& io) : resolver_(io), socket_(io) {}

 private:
  void try_all(const std::vector<boost::asio::ip::tcp::endpoint>& endpoints);
  void finish(const boost::system::error_code& error);

  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::ip::tcp::socket socket_;
  HostPort address_;
  Done done_;
};

}  // namespace baton::control
