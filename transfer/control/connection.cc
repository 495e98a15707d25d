#include "transfer/control/connection.h"

#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstring>
#include <span>

#include "transfer/base/log.h"
#include "transfer/protocol/codec.h"

namespace baton::control {
namespace {

using boost::system::error_code;

constexpr size_t kReadBytes = 64 << 10;
constexpr uint32_t kMaxStrangerPayloadBytes = 16 << 10;  // a HELLO with every text at its bound
constexpr size_t kMaxFramesAWrite = 64;
constexpr unsigned kUserTimeoutMs = 30'000;

std::string remote_of(const boost::asio::ip::tcp::socket& socket) {
  error_code error;
  const auto end = socket.remote_endpoint(error);
  if (error) return "a peer that is gone";
  const std::string host = end.address().to_string();
  return (end.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(end.port());
}

// Whether these bytes begin a TLS handshake: a record of that type, version 3.
bool speaks_tls(std::span<const std::byte> bytes) {
  return bytes[0] == std::byte{0x16} && bytes[1] == std::byte{3};
}

Status lost(const char* what, const error_code& error) {
  if (error == boost::asio::error::eof) {
    return Status(Code::kUnavailable, "the peer closed the connection");
  }
  return Status(Code::kUnavailable, std::string(what) + ": " + error.message(), error.value());
}

}  // namespace

Connection::Connection(std::unique_ptr<Stream> stream, size_t max_queued_bytes)
    : stream_(std::move(stream)),
      max_queued_bytes_(max_queued_bytes),
      remote_(remote_of(stream_->socket())) {
  // Either may fail on a socket that is already gone; the first read says so.
  error_code ignored;
  auto& socket = stream_->socket();
  socket.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMs,
               sizeof kUserTimeoutMs);
}

void Connection::start(OnMessage on_message, OnClosed on_closed) {
  on_message_ = std::move(on_message);
  on_closed_ = std::move(on_closed);
  in_.resize(kReadBytes);
  stream_->handshake([self = shared_from_this()](const error_code& error, size_t) {
    if (self->closed_) return;
    if (error) {
      return self->close(
          Status(Code::kUnavailable,
                 "TLS handshake: " + error.message() +
                     "; both nodes need TLS, and certificates of one authority (--tls-ca)",
                 error.value()));
    }
    self->ready_ = true;
    self->read();
    if (!self->queue_.empty()) self->write();
  });
}

void Connection::read() {
  stream_->read_some(boost::asio::buffer(in_.data() + filled_, in_.size() - filled_),
                     [self = shared_from_this()](const error_code& error, size_t bytes) {
                       if (self->closed_) return;
                       if (error) {
                         const bool finishing = !self->finish_why_.ok();
                         return self->close(finishing ? self->finish_why_ : lost("read", error));
                       }
                       self->filled_ += bytes;
                       if (!self->finish_why_.ok()) self->taken_ = self->filled_ = 0;
                       if (self->take_frames()) self->read();
                     });
}

bool Connection::take_frames() {
  while (filled_ - taken_ >= protocol::kFrameHeaderBytes) {
    const std::span<const std::byte> bytes(in_.data() + taken_, filled_ - taken_);
    const auto header = protocol::decode_header(bytes.first(protocol::kFrameHeaderBytes));
    if (!header.ok()) {
      close(speaks_tls(bytes)
                ? Status(Code::kProtocol, "the peer speaks TLS, and this node does not")
                : header.status());
      return false;
    }
    const uint32_t limit = let_in_ ? protocol::kMaxPayloadBytes : kMaxStrangerPayloadBytes;
    if (header->payload_bytes > limit) {
      close(Status(Code::kProtocol, "a frame of " + std::to_string(header->payload_bytes) +
                                        " bytes, where at most " + std::to_string(limit) +
                                        " are taken"));
      return false;
    }
    const size_t frame_bytes = protocol::kFrameHeaderBytes + header->payload_bytes;
    if (bytes.size() < frame_bytes) {
      // Room for the whole frame, from the buffer's start.
      std::memmove(in_.data(), in_.data() + taken_, bytes.size());
      filled_ = bytes.size();
      taken_ = 0;
      if (in_.size() < frame_bytes) in_.resize(std::max(frame_bytes, kReadBytes));
      return true;
    }
    auto message = protocol::decode(
        *header, bytes.subspan(protocol::kFrameHeaderBytes, header->payload_bytes));
    if (!message.ok()) {
      close(message.status());
      return false;
    }
    taken_ += frame_bytes;
    on_message_(std::move(*message));
    if (closed_) return false;
    if (!finish_why_.ok()) break;
  }
  if (!finish_why_.ok()) taken_ = filled_;
  std::memmove(in_.data(), in_.data() + taken_, filled_ - taken_);
  filled_ -= taken_;
  taken_ = 0;
  // A large frame's room is given back.
  if (in_.size() > kReadBytes && filled_ <= kReadBytes) {
    in_.resize(kReadBytes);
    in_.shrink_to_fit();
  }
  return true;
}

void Connection::send(const protocol::Message& message) {
  if (closed_ || !finish_why_.ok()) return;
  auto frame = protocol::encode(message);
  if (!frame.ok()) return close(frame.status());
  queued_bytes_ += frame->size();
  if (queued_bytes_ > max_queued_bytes_) {
    return close(Status(Code::kResourceExhausted, "the peer takes nothing: more than " +
                                                      std::to_string(max_queued_bytes_) +
                                                      " bytes are unsent"));
  }
  queue_.push_back(std::move(*frame));
  if (ready_ && in_flight_ == 0) write();
}

void Connection::write() {
  in_flight_ = std::min(queue_.size(), kMaxFramesAWrite);
  std::vector<boost::asio::const_buffer> buffers;
  buffers.reserve(in_flight_);
  for (size_t i = 0; i < in_flight_; ++i) buffers.push_back(boost::asio::buffer(queue_[i]));
  stream_->write(buffers, [self = shared_from_this()](const error_code& error, size_t bytes) {
    if (self->closed_) return;
    if (error) return self->close(lost("write", error));
    self->queued_bytes_ -= bytes;
    for (; self->in_flight_ > 0; --self->in_flight_) {
      self->queue_.pop_front();
    }
    if (!self->queue_.empty()) return self->write();
    if (!self->finish_why_.ok()) self->end_our_half();
  });
}

void Connection::finish(Status why) {
  if (closed_ || !finish_why_.ok()) return;
  finish_why_ = std::move(why);
  if (queue_.empty()) end_our_half();
}

void Connection::end_our_half() {
  error_code ignored;
  stream_->socket().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
}

void Connection::close(Status why) {
  if (closed_) return;
  closed_ = true;
  error_code ignored;
  stream_->socket().close(ignored);
  if (!on_closed_) return;
  boost::asio::post(stream_->socket().get_executor(),
                    [self = shared_from_this(), why = std::move(why)] {
                      // Both may hold what keeps this connection alive.
                      const auto on_closed = std::exchange(self->on_closed_, nullptr);
                      self->on_message_ = nullptr;
                      on_closed(why);
                    });
}

bool Connection::readable() const {
  int bytes = 0;
  return !closed_ && ::ioctl(stream_->socket().native_handle(), FIONREAD, &bytes) == 0 && bytes > 0;
}

}  // namespace baton::control
