#include "router/http/call.h"

#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>

#include "router/http/into.h"
#include "router/http/resolve.h"

namespace baton::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using boost::system::error_code;

struct AnswerParser : beast::http::response_parser<beast::http::buffer_body> {};

namespace {

constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kPieceBytes = 16 << 10;

// Neither closed by the other side nor with bytes that nobody asked for.
bool is_quiet(tcp::socket& socket) {
  char byte = 0;
  const ssize_t n = ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

std::string serialize(const Request& request, const std::string& host, bool keep_alive) {
  std::string out = request.method + ' ' + request.target + " HTTP/1.1\r\nHost: " + host + "\r\n";
  for (const auto& [name, value] : request.headers) out += name + ": " + value + "\r\n";
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT") {
    out += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  }
  out += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  out += request.body;
  return out;
}

ResponseHead head_of(const beast::http::response_header<>& header) {
  ResponseHead head;
  head.status = static_cast<int>(header.result_int());
  for (const auto& field : header) head.headers.emplace_back(field.name_string(), field.value());
  return head;
}

}  // namespace

std::optional<tcp::socket> Client::Shared::take_idle(const std::string& address) {
  const auto found = idle.find(address);
  if (found == idle.end()) return std::nullopt;
  auto& sockets = found->second;
  while (!sockets.empty()) {
    Idle newest = std::move(sockets.back());
    sockets.pop_back();
    if (now() - newest.since > config.max_idle)
      sockets.clear();
    else if (is_quiet(newest.socket))
      return std::move(newest.socket);
  }
  idle.erase(found);
  return std::nullopt;
}

void Client::Shared::keep_idle(const std::string& address, tcp::socket socket) {
  if (stopping) return;
  auto& sockets = idle[address];
  while (!sockets.empty() && (now() - sockets.front().since > config.max_idle ||
                              sockets.size() >= config.max_idle_connections)) {
    sockets.pop_front();
  }
  if (config.max_idle_connections > 0) sockets.push_back({std::move(socket), now()});
}

RunningCall::RunningCall(std::shared_ptr<Client::Shared> client, const HostPort& to,
                         Request request, const CallOptions& options, CallHandlers handlers)
    : client_(std::move(client)),
      to_(to),
      address_(to.to_string()),
      request_(std::move(request)),
      options_(options),
      deadline_(now() + options.deadline),
      handlers_(std::move(handlers)),
      socket_(client_->loop.context()),
      resolver_(client_->loop.context()),
      timer_(client_->loop.context()),
      signal_(client_->loop.context(), asio::steady_timer::time_point::max()) {}

void RunningCall::spawn() {
  client_->calls.emplace(this, shared_from_this());
  if (client_->stopping) cancelled_ = true;
  asio::co_spawn(client_->loop.context(), run(), asio::detached);
}

asio::awaitable<void> RunningCall::run() {
  const auto self = shared_from_this();
  Status status = co_await connect();
  if (status.ok()) status = co_await exchange();
  ended_ = true;
  timer_.cancel();
  close();
  const CallHandlers handlers = std::exchange(handlers_, {});
  if (handlers.on_end) handlers.on_end({status, stage_});
  client_->calls.erase(this);
  MutexLock lock(client_->mutex);
  --client_->running;
  client_->ended.notify_all();
}

asio::awaitable<Status> RunningCall::connect() {
  if (cancelled_) co_return Status(Code::kCancelled, "the call was cancelled");
  if (auto idle = client_->take_idle(address_)) {
    socket_ = std::move(*idle);
    arm_deadline(deadline_);
    co_return ok_status();
  }
  arm_deadline(std::min(deadline_, now() + options_.connect_deadline));
  error_code error;
  tcp::endpoint endpoint;
  if (const auto numeric = numeric_endpoint(to_)) {
    endpoint = *numeric;
  } else {
    const auto found =
        co_await resolver_.async_resolve(to_.host, std::to_string(to_.port), into(error));
    if (error || found.empty()) co_return status_of("cannot resolve ", error);
    endpoint = found.begin()->endpoint();
  }
  if (cancelled_ || timed_out_) co_return status_of("cannot connect to ", error);
  co_await socket_.async_connect(endpoint, into(error));
  if (error) co_return status_of("cannot connect to ", error);
  arm_deadline(deadline_);
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  co_return ok_status();
}

asio::awaitable<Status> RunningCall::exchange() {
  if (cancelled_ || timed_out_) co_return status_of("no connection to ", {});
  stage_ = CallStage::kWaiting;
  error_code error;
  {
    const std::string bytes = serialize(request_, address_, options_.keep_alive);
    request_.body = {};
    // A server may answer (413, say) before it has read everything: its answer counts more than
    // our failure to write.
    co_await asio::async_write(socket_, asio::buffer(bytes), into(error));
    if (cancelled_ || timed_out_) co_return status_of("no answer from ", error);
  }
  std::optional<AnswerParser> parser;
  do {  // until it is no "100 Continue"
    parser.emplace();
    parser->header_limit(static_cast<uint32_t>(client_->config.max_header_bytes));
    parser->body_limit(boost::none);
    parser->skip(request_.method == "HEAD");
    co_await beast::http::async_read_header(socket_, buffer_, *parser, into(error));
    if (error) co_return status_of("no answer from ", error);
  } while (parser->get().result_int() < 200);
  stage_ = CallStage::kAnswering;
  if (handlers_.on_head) handlers_.on_head(head_of(parser->get().base()));
  error = co_await read_body(*parser);
  if (error || cancelled_ || timed_out_) co_return status_of("no whole answer from ", error);
  if (options_.keep_alive && parser->keep_alive() && buffer_.size() == 0) {
    client_->keep_idle(address_, std::move(socket_));
  }
  co_return ok_status();
}

// Beast's own reading of bodies either waits until a buffer is full or stops at every part of a
// chunk; this hands on all that one read of the socket brought.
asio::awaitable<error_code> RunningCall::read_body(AnswerParser& parser) {
  std::string piece(kPieceBytes, '\0');
  parser.eager(true);
  bool starved = buffer_.size() == 0;
  while (!parser.is_done() && !cancelled_ && !timed_out_) {
    error_code error;
    if (starved) {
      const size_t n = co_await socket_.async_read_some(buffer_.prepare(kReadBytes), into(error));
      buffer_.commit(n);
      if (error == asio::error::eof) {
        error = {};
        parser.put_eof(error);
      }
    }
    if (!error && !cancelled_ && !parser.is_done()) error = deliver(parser, piece);
    starved = error == beast::http::error::need_more || buffer_.size() == 0;
    if (error && error != beast::http::error::need_more) co_return error;
    while (paused_ && !cancelled_ && !timed_out_) {
      error_code ignored;
      co_await signal_.async_wait(into(ignored));
    }
  }
  co_return error_code();
}

// Parses what has been read and passes on the part of the body in it.
error_code RunningCall::deliver(AnswerParser& parser, std::string& piece) {
  error_code error;
  auto& body = parser.get().body();
  body.data = piece.data();
  body.size = piece.size();
  buffer_.consume(parser.put(buffer_.data(), error));
  const size_t n = piece.size() - body.size;
  if (n > 0 && handlers_.on_body) handlers_.on_body({piece.data(), n});
  if (error == beast::http::error::need_buffer) error = {};
  return error;
}

void RunningCall::on_loop(void (RunningCall::*function)()) {
  asio::dispatch(client_->loop.context(),
                 [self = shared_from_this(), function] { (self.get()->*function)(); });
}

void RunningCall::cancel() { on_loop(&RunningCall::cancel_on_loop); }
void RunningCall::pause() { on_loop(&RunningCall::pause_on_loop); }
void RunningCall::resume() { on_loop(&RunningCall::resume_on_loop); }

void RunningCall::cancel_on_loop() {
  if (ended_) return;
  cancelled_ = true;
  close();
}

void RunningCall::resume_on_loop() {
  paused_ = false;
  signal_.cancel();
}

void RunningCall::arm_deadline(TimePoint at) {
  timer_.expires_at(at);
  timer_.async_wait([weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->ended_) return;
    self->timed_out_ = true;
    self->close();
  });
}

void RunningCall::close() {
  error_code ignored;
  resolver_.cancel();
  socket_.close(ignored);
  signal_.cancel();
}

Status RunningCall::status_of(const char* doing, error_code error) const {
  if (cancelled_) return Status(Code::kCancelled, "the call was cancelled");
  const std::string what = doing + address_ + ": ";
  if (timed_out_) return Status(Code::kDeadlineExceeded, what + "the deadline has passed");
  using E = beast::http::error;
  if (error == E::end_of_stream || error == E::partial_message || error == asio::error::eof) {
    return Status(Code::kUnavailable, what + "the connection was closed");
  }
  const bool http = error.category() == make_error_code(E::bad_method).category();
  return Status(http ? Code::kProtocol : Code::kUnavailable,
                what + (error ? error.message() : "no connection"), error.value());
}

}  // namespace baton::http
