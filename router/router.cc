#include "router/router.h"

#include "router/front_end.h"
#include "router/http/server.h"
#include "transfer/base/log.h"

namespace baton::router {
namespace {

// For answers that are written already to reach their clients.
constexpr auto kFlushGrace = std::chrono::milliseconds(500);

http::ServerConfig server_config(const RouterConfig& config) {
  http::ServerConfig server;
  server.max_body_bytes = config.max_body_bytes;
  server.max_connections = config.max_connections;
  return server;
}

// The one thing that such a deployment lacks shows only when a prefiller fails.
void warn_of_deaf_decoders(const RouterConfig& config) {
  for (const InstanceConfig& decoder : config.decoders) {
    if (decoder.node_http) continue;
    log::warn(
        "decoder url={} was given without @NODE_HTTP: it cannot be told that a prefiller failed, "
        "and finds out at its first-contact or progress deadline",
        decoder.url.to_string());
  }
}

}  // namespace

struct Router::Impl {
  explicit Impl(RouterConfig c)
      : config(std::move(c)),
        client(std::make_unique<http::Client>(loop)),
        registry(config, loop, *client, metrics),
        front_end(config, loop, *client, registry, metrics) {}
  // No new requests, no new probes, then the end of the calls that run, whose callbacks still need
  // registry and front end; these go when nobody calls them any more, and the loop is last.
  ~Impl() {
    if (server) front_end.drain(Duration::zero());
    server.reset();
    registry.stop();
    client.reset();
  }

  const RouterConfig config;
  Metrics metrics;
  http::EventLoop loop;
  std::unique_ptr<http::Client> client;
  Registry registry;
  FrontEnd front_end;
  std::unique_ptr<http::Server> server;
};

Result<std::unique_ptr<Router>> Router::create(RouterConfig config) {
  auto impl = std::make_unique<Impl>(std::move(config));
  FrontEnd& front_end = impl->front_end;
  auto server = http::Server::listen(
      impl->loop, impl->config.listen, server_config(impl->config),
      [&front_end](std::shared_ptr<http::Exchange> e) { front_end.handle(std::move(e)); });
  if (!server.ok()) return server.status();
  impl->server = std::move(server).value();
  warn_of_deaf_decoders(impl->config);
  return std::unique_ptr<Router>(new Router(std::move(impl)));
}

Router::Router(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Router::~Router() = default;

const HostPort& Router::address() const { return impl_->server->address(); }

void Router::stop() {
  impl_->front_end.drain(impl_->config.drain);
  impl_->registry.stop();  // answers who waits for a probe, while answers still go out
  impl_->server->stop(kFlushGrace);
}

}  // namespace baton::router
