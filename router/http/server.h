// HTTP/1.1 server: accepts, reads requests within bounds, hands each to a handler as an Exchange.
//
// Keep-alive, TCP_NODELAY, chunked answers. What breaks a bound is answered here: malformed 400,
// header too large 431, body too large 413, too many connections 503. Those answers are
// ApiErrors. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "router/http/event_loop.h"
#include "router/http/exchange.h"
#include "transfer/base/address.h"

namespace baton::http {

struct ServerConfig {
  size_t max_connections = 1024;
  size_t max_header_bytes = 32 << 10;
  size_t max_body_bytes = 8 << 20;
  // Unsent bytes of one stream; see Exchange::write.
  size_t max_buffered_bytes = 4 << 20;
  Duration idle_deadline = std::chrono::seconds(75);   // between requests of one connection
  Duration read_deadline = std::chrono::seconds(30);   // from a request's first byte to its last
  Duration write_deadline = std::chrono::seconds(30);  // for the client to take what is written
};

// Called on the loop's thread for each request; must not block it.
using Handler = std::function<void(std::shared_ptr<Exchange>)>;

class Server {
 public:
  // Port 0 takes a free one; see address(). The loop must outlive the server.
  // Errors: kInvalidArgument (host cannot be resolved), kUnavailable (cannot bind).
  static Result<std::unique_ptr<Server>> listen(EventLoop& loop, const HostPort& address,
                                                ServerConfig config, Handler handler);
  // stop(0).
  ~Server();

  // Where it listens, with the real port.
  const HostPort& address() const { return address_; }

  // Closes the listening socket and idle connections, lets running exchanges end for at most
  // `grace`, then cuts what is left (their clients count as gone). The handler is not called
  // after it returns. Not to be called on the loop's thread. Once is enough.
  void stop(Duration grace);

  struct Shared;  // what the connections share with the server; in connection.h

 private:
  explicit Server(std::shared_ptr<Shared> shared);
  std::shared_ptr<Shared> shared_;
  HostPort address_;
};

}  // namespace baton::http
