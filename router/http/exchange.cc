#include "router/http/exchange.h"

#include <cstdio>
#include <utility>

namespace baton::http {
namespace {

bool body_allowed(int status) { return status >= 200 && status != 204 && status != 304; }

}  // namespace

Exchange::Exchange(Request request, Options options, std::function<void()> wake)
    : request_(std::move(request)),
      options_(options),
      wake_(std::move(wake)),
      keep_alive_(options.keep_alive) {}

void Exchange::respond(int status, Headers headers, std::string body) {
  MutexLock lock(mutex_);
  if (state_ != State::kWaiting) return;
  respond_locked(status, std::move(headers), body);
  wake_locked();
}

void Exchange::respond_error(const ApiError& error, Headers headers) {
  headers.emplace_back("Content-Type", "application/json");
  if (error.status == 429 || error.status == 503) headers.emplace_back("Retry-After", "1");
  respond(error.status, std::move(headers), error.json());
}

void Exchange::respond_locked(int status, Headers headers, std::string_view body) {
  if (body_allowed(status)) headers.emplace_back("Content-Length", std::to_string(body.size()));
  headers.emplace_back("Connection", keep_alive_ ? "keep-alive" : "close");
  output_ += serialize_head(status, headers);
  if (body_allowed(status) && !options_.head_only) output_ += body;
  state_ = State::kComplete;
}

Status Exchange::start_stream(int status, Headers headers) {
  MutexLock lock(mutex_);
  if (gone_) return Status(Code::kCancelled, "the client has gone");
  if (state_ != State::kWaiting) return Status(Code::kCancelled, "already answered");
  if (!options_.chunked) keep_alive_ = false;
  if (options_.chunked) headers.emplace_back("Transfer-Encoding", "chunked");
  headers.emplace_back("Connection", keep_alive_ ? "keep-alive" : "close");
  output_ += serialize_head(status, headers);
  state_ = State::kStreaming;
  wake_locked();
  return ok_status();
}

Status Exchange::write(std::string_view piece) {
  MutexLock lock(mutex_);
  if (gone_) return Status(Code::kCancelled, "the client has gone");
  if (state_ != State::kStreaming) return Status(Code::kCancelled, "no stream is open");
  // An empty chunk would end the body.
  if (piece.empty() || options_.head_only) return ok_status();
  if (output_.size() + in_kernel_call_ + piece.size() > options_.max_buffered_bytes) {
    // The connection, once woken, closes itself and calls the client-gone callback.
    output_.clear();
    lose_locked();
    wake_locked();
    return Status(Code::kResourceExhausted, "the client reads too slowly: more than " +
                                                std::to_string(options_.max_buffered_bytes) +
                                                " bytes wait for it");
  }
  if (options_.chunked) {
    char size[24];
    std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
    output_ += size;
  }
  output_ += piece;
  if (options_.chunked) output_ += "\r\n";
  wake_locked();
  return ok_status();
}

void Exchange::finish() {
  MutexLock lock(mutex_);
  if (state_ != State::kStreaming) return;
  if (options_.chunked && !options_.head_only) output_ += "0\r\n\r\n";
  state_ = State::kComplete;
  wake_locked();
}

void Exchange::abort() {
  MutexLock lock(mutex_);
  if (state_ == State::kComplete) return;
  state_ = State::kComplete;
  keep_alive_ = false;
  wake_locked();
}

void Exchange::on_client_gone(std::function<void()> callback) {
  {
    MutexLock lock(mutex_);
    if (!gone_) {
      if (state_ != State::kComplete) gone_callback_.swap(callback);
      return;
    }
  }
  if (callback) callback();
}

bool Exchange::client_gone() const {
  MutexLock lock(mutex_);
  return gone_;
}

size_t Exchange::buffered_bytes() const {
  MutexLock lock(mutex_);
  return output_.size() + in_kernel_call_;
}

void Exchange::on_drained(std::function<void()> callback) {
  MutexLock lock(mutex_);
  drained_callback_.swap(callback);
}

Exchange::Output Exchange::take_output() {
  MutexLock lock(mutex_);
  woken_ = false;
  Output taken;
  taken.bytes = std::exchange(output_, {});
  taken.complete = state_ == State::kComplete;
  taken.keep_alive = keep_alive_;
  in_kernel_call_ = taken.bytes.size();
  return taken;
}

void Exchange::output_sent() {
  std::function<void()> drained;
  {
    MutexLock lock(mutex_);
    in_kernel_call_ = 0;
    if (output_.empty() && !gone_) drained = drained_callback_;
  }
  if (drained) drained();
}

void Exchange::connection_lost() {
  std::function<void()> gone;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kComplete && !gone_) return;
    lose_locked();
    gone = std::exchange(gone_callback_, {});
  }
  if (gone) gone();
}

void Exchange::refuse_keep_alive() {
  MutexLock lock(mutex_);
  keep_alive_ = false;
}

void Exchange::detach() {
  std::function<void()> wake, drained, gone;  // destroyed without the lock
  MutexLock lock(mutex_);
  wake.swap(wake_);
  drained.swap(drained_callback_);
  gone.swap(gone_callback_);
}

void Exchange::lose_locked() {
  gone_ = true;
  keep_alive_ = false;
  state_ = State::kComplete;
}

void Exchange::wake_locked() {
  if (woken_ || !wake_) return;
  woken_ = true;
  wake_();
}

}  // namespace baton::http
