// The bytes below a control connection: a TCP socket, with TLS on it or without.
//
// One read and one write may be under way at a time. The owner keeps the stream until every handler
// has run. Confined to the io_context's thread.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "transfer/base/token.h"
#include "transfer/control/tls.h"

namespace baton::control {

class Stream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Done = std::function<void(const boost::system::error_code&, size_t bytes)>;

  // Without TLS where `tls` is null. `dialled`: this side begins the handshake.
  static std::unique_ptr<Stream> create(Socket socket, const TlsContext& tls, bool dialled);
  virtual ~Stream() = default;

  virtual Socket& socket() = 0;
  // Before anything is read or written. Without TLS `done` runs inside this call.
  virtual void handshake(Done done) = 0;
  virtual void read_some(boost::asio::mutable_buffer to, Done done) = 0;
  virtual void write(const std::vector<boost::asio::const_buffer>& from, Done done) = 0;
  // Known to the two ends of this TLS connection and to nobody else; nothing without TLS.
  virtual std::optional<Digest> exported_key() = 0;
};

}  // namespace baton::control
