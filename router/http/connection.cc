#include "router/http/connection.h"

#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "router/http/api_error.h"
#include "router/http/into.h"
#include "transfer/base/log.h"

namespace baton::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
using boost::system::error_code;

namespace {

// Of what a client sends ahead while its request is being answered.
constexpr size_t kMaxReadAhead = 64 << 10;
constexpr size_t kRequestReadBytes = 4 << 10;
// How long, and for how many bytes, a client that is being rejected may go on sending.
constexpr auto kLingerDeadline = std::chrono::seconds(5);
constexpr size_t kMaxLingerBytes = size_t{256} << 20;

// Status 0: the client has gone, nobody reads an answer.
Connection::Rejection rejection_for(error_code error) {
  using E = beast::http::error;
  if (error == E::body_limit) {
    return {413, "body_too_large", "the request's body is larger than this server takes"};
  }
  if (error == E::header_limit) {
    return {431, "headers_too_large", "the request's headers are too large"};
  }
  if (error == E::end_of_stream || error == E::partial_message ||
      error.category() != make_error_code(E::bad_method).category()) {
    return {};
  }
  return {400, "invalid_http", "the request is not well-formed HTTP/1.1"};
}

std::string rejection_bytes(const Connection::Rejection& rejection) {
  const std::string body = ApiError{rejection.status, rejection.message, "", rejection.code}.json();
  const Headers headers = {{"Content-Type", "application/json"},
                           {"Content-Length", std::to_string(body.size())},
                           {"Connection", "close"}};
  return serialize_head(rejection.status, headers) + body;
}

}  // namespace

Connection::Connection(std::shared_ptr<Server::Shared> server, asio::ip::tcp::socket socket)
    : server_(std::move(server)),
      socket_(std::move(socket)),
      deadline_(socket_.get_executor()),
      signal_(socket_.get_executor(), asio::steady_timer::time_point::max()) {}

asio::awaitable<void> Connection::run() {
  const auto self = shared_from_this();
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  while (!server_->draining) {
    Request request;
    Exchange::Options options;
    options.max_buffered_bytes = server_->config.max_buffered_bytes;
    idle_ = true;
    const bool read = co_await read_request(request, options);
    if (!read) break;
    const bool again = co_await answer(std::move(request), options);
    if (!again) break;
  }
  deadline_.cancel();
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  close();
}

void Connection::drain() {
  if (idle_) close();
  if (exchange_) exchange_->refuse_keep_alive();
}

void Connection::close() {
  error_code ignored;
  socket_.close(ignored);
}

void Connection::arm_deadline(Duration after) {
  deadline_.expires_after(after);
  deadline_.async_wait([weak = weak_from_this()](error_code error) {
    if (error) return;
    if (const auto self = weak.lock()) self->close();
  });
}

asio::awaitable<bool> Connection::wait_for_first_byte() {
  if (buffer_.size() > 0) co_return true;
  arm_deadline(server_->config.idle_deadline);
  error_code error;
  const size_t n =
      co_await socket_.async_read_some(buffer_.prepare(kRequestReadBytes), into(error));
  buffer_.commit(n);
  co_return !error;
}

asio::awaitable<bool> Connection::read_request(Request& request, Exchange::Options& options) {
  const bool begun = co_await wait_for_first_byte();
  if (!begun) co_return false;
  idle_ = false;
  arm_deadline(server_->config.read_deadline);
  beast::http::request_parser<beast::http::string_body> parser;
  parser.header_limit(static_cast<uint32_t>(server_->config.max_header_bytes));
  parser.body_limit(server_->config.max_body_bytes);
  error_code error;
  co_await beast::http::async_read_header(socket_, buffer_, parser, into(error));
  if (!error && beast::iequals(parser.get()[beast::http::field::expect], "100-continue")) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(socket_, asio::buffer(kContinue), into(error));
  }
  if (!error) co_await beast::http::async_read(socket_, buffer_, parser, into(error));
  if (error) {
    const Rejection rejection = rejection_for(error);
    if (rejection.status != 0) co_await reject(rejection);
    co_return false;
  }
  auto message = parser.release();
  request.method = message.method_string();
  request.target = message.target();
  for (const auto& field : message) {
    request.headers.emplace_back(field.name_string(), field.value());
  }
  request.body = std::move(message.body());
  options.chunked = message.version() >= 11;
  options.keep_alive = message.keep_alive() && !server_->draining;
  options.head_only = message.method() == beast::http::verb::head;
  co_return true;
}

asio::awaitable<void> Connection::reject(Rejection rejection) {
  const std::string bytes = rejection_bytes(rejection);
  error_code error;
  co_await asio::async_write(socket_, asio::buffer(bytes), into(error));
  // Closing with unread bytes would reset the connection and could take the answer with it.
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  arm_deadline(kLingerDeadline);
  std::string discarded(64 << 10, '\0');
  for (size_t total = 0; !error && total < kMaxLingerBytes;) {
    total += co_await socket_.async_read_some(asio::buffer(discarded), into(error));
  }
}

asio::awaitable<bool> Connection::answer(Request request, Exchange::Options options) {
  deadline_.cancel();
  stop_watching_ = false;
  EventLoop& loop = server_->loop;
  const auto exchange =
      std::make_shared<Exchange>(std::move(request), options, [&loop, weak = weak_from_this()] {
        loop.post([weak] {
          if (const auto self = weak.lock()) self->on_wake();
        });
      });
  exchange_ = exchange;
  watch(exchange);
  server_->handler(exchange);
  const bool whole = co_await send_output(exchange);
  co_await stop_watching();
  exchange->connection_lost();
  exchange->detach();
  exchange_.reset();
  co_return whole;
}

void Connection::on_wake() {
  // A client that was cut off for reading too slowly may hold up a write.
  if (exchange_ && exchange_->client_gone()) close();
  signal_.cancel();
}

asio::awaitable<bool> Connection::send_output(std::shared_ptr<Exchange> exchange) {
  for (;;) {
    Exchange::Output output = exchange->take_output();
    if (lost_) co_return false;
    if (!output.bytes.empty()) {
      arm_deadline(server_->config.write_deadline);
      error_code error;
      co_await asio::async_write(socket_, asio::buffer(output.bytes), into(error));
      deadline_.cancel();
      if (error) co_return false;
      exchange->output_sent();
    }
    if (output.complete) co_return output.keep_alive;
    if (output.bytes.empty()) co_await wait_for_signal();
  }
}

void Connection::watch(std::shared_ptr<Exchange> exchange) {
  if (stop_watching_ || buffer_.size() >= kMaxReadAhead) return;
  watching_ = true;
  socket_.async_read_some(buffer_.prepare(kRequestReadBytes), [self = shared_from_this(), exchange](
                                                                  error_code error, size_t n) {
    self->watching_ = false;
    self->buffer_.commit(n);
    if (!error) {
      self->watch(exchange);
    } else if (error != asio::error::operation_aborted || !self->socket_.is_open()) {
      self->lost_ = true;
      self->close();
      exchange->connection_lost();
    }
    self->signal_.cancel();
  });
}

asio::awaitable<void> Connection::stop_watching() {
  error_code ignored;
  stop_watching_ = true;
  if (watching_) socket_.cancel(ignored);
  while (watching_) co_await wait_for_signal();
}

asio::awaitable<void> Connection::wait_for_signal() {
  error_code ignored;
  co_await signal_.async_wait(into(ignored));
}

}  // namespace baton::http
