// A whole router in one object: what main() runs and tests start.
#pragma once

#include <memory>

#include "router/config.h"
#include "transfer/base/status.h"

namespace baton::router {

// Thread-safe: nothing but create, address and destruction is public, and stop() is called once.
class Router {
 public:
  // Listens and begins to probe the instances. Errors: of http::Server::listen.
  static Result<std::unique_ptr<Router>> create(RouterConfig config);
  // Without stop() before: as stop() with no time to drain.
  ~Router();

  // Where it listens, with the real port.
  const HostPort& address() const;

  // Drains: refuses new completions, answers /health with 503, lets running requests end for at
  // most config.drain, cuts the rest. Then stops listening.
  void stop();

 private:
  struct Impl;
  explicit Router(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::router
