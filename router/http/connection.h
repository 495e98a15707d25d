// One accepted connection of a Server (internal: only server.cc and connection.cc include this).
//
// Confined to the loop's thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>
#include <unordered_map>

#include "router/http/server.h"
#include "transfer/base/mutex.h"

namespace baton::http {

class Connection;

struct Server::Shared {
  Shared(EventLoop& loop, ServerConfig config, Handler handler)
      : loop(loop),
        config(std::move(config)),
        handler(std::move(handler)),
        acceptor(loop.context()) {}

  EventLoop& loop;
  const ServerConfig config;
  const Handler handler;
  // On the loop's thread:
  boost::asio::ip::tcp::acceptor acceptor;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections;
  bool draining = false;
  // For stop(), which waits until nothing runs:
  Mutex mutex;
  CondVar changed;
  size_t running BATON_GUARDED_BY(mutex) = 0;  // coroutines: the acceptor's and the connections'
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Server::Shared> server, boost::asio::ip::tcp::socket socket);

  // Serves requests until the connection ends.
  boost::asio::awaitable<void> run();
  // Ends when the running exchange has ended; at once where there is none.
  void drain();
  void close();

  // An answer to a request that could not be read.
  struct Rejection {
    int status = 0;
    const char* code = "";  // one word, for programs
    const char* message = "";
  };

 private:
  // Reads one request. False when the connection is to be closed.
  boost::asio::awaitable<bool> read_request(Request& request, Exchange::Options& options);
  boost::asio::awaitable<bool> wait_for_first_byte();
  // Sends it, and lets the client read it before the connection ends.
  boost::asio::awaitable<void> reject(Rejection rejection);
  // Runs one exchange to its end. True when another request may follow.
  boost::asio::awaitable<bool> answer(Request request, Exchange::Options options);
  void on_wake();
  boost::asio::awaitable<bool> send_output(std::shared_ptr<Exchange> exchange);
  // Keeps a read pending while an exchange runs, so that a client's leaving is noticed.
  void watch(std::shared_ptr<Exchange> exchange);
  boost::asio::awaitable<void> stop_watching();
  boost::asio::awaitable<void> wait_for_signal();
  void arm_deadline(Duration after);

  const std::shared_ptr<Server::Shared> server_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer deadline_;  // closes the socket
  boost::asio::steady_timer signal_;    // never expires: cancelling it wakes the coroutine
  boost::beast::flat_buffer buffer_;
  std::shared_ptr<Exchange> exchange_;
  bool idle_ = false;  // between two requests
  bool watching_ = false;
  bool stop_watching_ = false;
  bool lost_ = false;  // no more can be sent
};

}  // namespace baton::http
