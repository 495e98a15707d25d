// One running call of a Client (internal: only client.cc and call.cc include this).
//
// Confined to the loop's thread, but for Call's functions.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>

#include "router/http/client.h"
#include "transfer/base/mutex.h"

namespace baton::http {

class RunningCall;
struct AnswerParser;  // Beast's, in call.cc

struct Client::Shared {
  Shared(EventLoop& loop, ClientConfig config) : loop(loop), config(config) {}

  struct Idle {
    boost::asio::ip::tcp::socket socket;
    TimePoint since;
  };

  EventLoop& loop;
  const ClientConfig config;
  // On the loop's thread:
  std::unordered_map<RunningCall*, std::shared_ptr<RunningCall>> calls;
  std::unordered_map<std::string, std::deque<Idle>> idle;  // by address, the newest last
  bool stopping = false;
  // For the destructor, which waits until nothing runs:
  Mutex mutex;
  CondVar ended;
  size_t running BATON_GUARDED_BY(mutex) = 0;

  // A connection to `address` that is still open and has nothing to read.
  std::optional<boost::asio::ip::tcp::socket> take_idle(const std::string& address);
  void keep_idle(const std::string& address, boost::asio::ip::tcp::socket socket);
};

class RunningCall : public Call, public std::enable_shared_from_this<RunningCall> {
 public:
  RunningCall(std::shared_ptr<Client::Shared> client, const HostPort& to, Request request,
              const CallOptions& options, CallHandlers handlers);
  void spawn();

  void cancel() override;
  void pause() override;
  void resume() override;

 private:
  boost::asio::awaitable<void> run();
  boost::asio::awaitable<Status> connect();
  boost::asio::awaitable<Status> exchange();
  boost::asio::awaitable<boost::system::error_code> read_body(AnswerParser& parser);
  boost::system::error_code deliver(AnswerParser& parser, std::string& piece);
  // Runs `function` on the loop's thread, at once where this is it.
  void on_loop(void (RunningCall::*function)());
  void cancel_on_loop();
  void pause_on_loop() { paused_ = true; }
  void resume_on_loop();
  void arm_deadline(TimePoint at);
  void close();
  // What `error` means here: our own reasons for closing the socket come first.
  Status status_of(const char* doing, boost::system::error_code error) const;

  const std::shared_ptr<Client::Shared> client_;
  const HostPort to_;
  const std::string address_;
  Request request_;
  const CallOptions options_;
  const TimePoint deadline_;
  CallHandlers handlers_;

  boost::asio::ip::tcp::socket socket_;
  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer signal_;  // never expires: cancelling it wakes the coroutine
  boost::beast::flat_buffer buffer_;
  CallStage stage_ = CallStage::kConnecting;
  bool cancelled_ = false;
  bool timed_out_ = false;
  bool paused_ = false;
  bool ended_ = false;
};

}  // namespace baton::http
