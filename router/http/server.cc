#include "router/http/server.h"

#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include "router/http/api_error.h"
#include "router/http/connection.h"
#include "router/http/resolve.h"
#include "transfer/base/log.h"

namespace baton::http {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using SharedPtr = std::shared_ptr<Server::Shared>;

namespace {

// After an error of accept() that passes by itself, such as too many open files.
constexpr auto kAcceptPause = std::chrono::milliseconds(50);

// Counts a coroutine of the server as running while it lives.
class Running {
 public:
  explicit Running(SharedPtr shared) : shared_(std::move(shared)) {
    MutexLock lock(shared_->mutex);
    ++shared_->running;
  }
  ~Running() {
    MutexLock lock(shared_->mutex);
    --shared_->running;
    shared_->changed.notify_all();
  }
  Running(const Running&) = delete;

 private:
  SharedPtr shared_;
};

// `running` is counted from before the coroutine starts, so that stop() cannot miss it.
asio::awaitable<void> serve(SharedPtr shared, std::shared_ptr<Connection> connection,
                            std::unique_ptr<Running> /*running*/) {
  co_await connection->run();
  shared->connections.erase(connection.get());
}

// Fits into the fresh socket's send buffer, so that nobody waits for the client.
void turn_away(tcp::socket& socket) {
  const std::string body = ApiError{503, "too many connections", "", "too_many_connections"}.json();
  const std::string bytes = serialize_head(503, {{"Content-Type", "application/json"},
                                                 {"Content-Length", std::to_string(body.size())},
                                                 {"Retry-After", "1"},
                                                 {"Connection", "close"}}) +
                            body;
  (void)::send(socket.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  error_code ignored;
  socket.shutdown(tcp::socket::shutdown_send, ignored);
}

asio::awaitable<void> accept_all(SharedPtr shared, std::unique_ptr<Running> /*running*/) {
  while (!shared->draining) {
    error_code error;
    tcp::socket socket =
        co_await shared->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (shared->draining) break;
    if (error) {
      log::warn("cannot accept a connection error=\"{}\"", error.message());
      asio::steady_timer pause(shared->loop.context(), kAcceptPause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    if (shared->connections.size() >= shared->config.max_connections) {
      turn_away(socket);
      continue;
    }
    const auto connection = std::make_shared<Connection>(shared, std::move(socket));
    shared->connections.emplace(connection.get(), connection);
    asio::co_spawn(shared->loop.context(),
                   serve(shared, connection, std::make_unique<Running>(shared)), asio::detached);
  }
}

Status bind_and_listen(tcp::acceptor& acceptor, const tcp::endpoint& endpoint) {
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return Status(Code::kUnavailable, "cannot listen: " + error.message(), error.value());
  return ok_status();
}

}  // namespace

Result<std::unique_ptr<Server>> Server::listen(EventLoop& loop, const HostPort& address,
                                               ServerConfig config, Handler handler) {
  BATON_ASSIGN_OR_RETURN(const tcp::endpoint endpoint, resolve_now(address));
  auto shared = std::make_shared<Shared>(loop, std::move(config), std::move(handler));
  if (Status status = bind_and_listen(shared->acceptor, endpoint); !status.ok()) {
    return Status(status.code(), address.to_string() + ": " + status.message(), status.native());
  }
  std::unique_ptr<Server> server(new Server(shared));
  asio::co_spawn(loop.context(), accept_all(shared, std::make_unique<Running>(shared)),
                 asio::detached);
  return server;
}

Server::Server(SharedPtr shared) : shared_(std::move(shared)) {
  const tcp::endpoint local = shared_->acceptor.local_endpoint();
  address_ = {local.address().to_string(), local.port()};
}

Server::~Server() { stop(Duration::zero()); }

void Server::stop(Duration grace) {
  BATON_CHECK(!shared_->loop.on_loop_thread(), "Server::stop would wait for its own thread");
  const auto deadline = now() + grace;
  const auto on_loop = [this](auto function) {
    asio::post(shared_->loop.context(), asio::use_future(function)).wait();
  };
  on_loop([shared = shared_] {
    error_code ignored;
    shared->draining = true;
    shared->acceptor.close(ignored);
    for (const auto& [key, connection] : shared->connections) connection->drain();
  });
  {
    MutexLock lock(shared_->mutex);
    while (shared_->running > 0 && shared_->changed.wait_until(shared_->mutex, deadline)) {
    }
  }
  on_loop([shared = shared_] {
    for (const auto& [key, connection] : shared->connections) connection->close();
  });
  MutexLock lock(shared_->mutex);
  while (shared_->running > 0) shared_->changed.wait(shared_->mutex);
}

}  // namespace baton::http
