// One request being answered. The handler of a Server gets it and completes it when and from where
// it likes; nobody waits for the handler to return.
//
// Thread-safe: every function may be called from any thread. Answer once: either respond() (or
// respond_error()), or start_stream(), write()… and finish() (or abort()). What comes after the
// end, or after the client has gone, is ignored or says so in its Status. An Exchange that is
// dropped unanswered leaves its client waiting until it goes away; so always answer.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "router/http/api_error.h"
#include "router/http/message.h"
#include "transfer/base/mutex.h"

namespace baton::http {

class Exchange {
 public:
  struct Options {
    size_t max_buffered_bytes = 0;  // of a stream; above it the client is cut off
    bool chunked = true;            // false for HTTP/1.0: the end of a stream is the connection's
    bool keep_alive = true;
    bool head_only = false;  // HEAD: the body is counted, not sent
  };
  // `wake` tells the connection, from any thread, that there is something to send or an end.
  Exchange(Request request, Options options, std::function<void()> wake);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Constant while the exchange lives.
  const Request& request() const { return request_; }

  // The whole answer. Content-Length and Connection are added.
  void respond(int status, Headers headers, std::string body) BATON_EXCLUDES(mutex_);
  // The error as the whole answer; with Retry-After where another try may succeed.
  void respond_error(const ApiError& error, Headers headers = {}) BATON_EXCLUDES(mutex_);

  // The head of an answer whose body comes in pieces; Transfer-Encoding and Connection are added.
  // Errors: kCancelled when the client is gone or the answer was begun before.
  Status start_stream(int status, Headers headers) BATON_EXCLUDES(mutex_);
  // Queues a piece of the body and returns at once. Errors: kCancelled when the client is gone or
  // the stream has ended; kResourceExhausted when the client reads so slowly that more than
  // max_buffered_bytes would wait for it: it is then cut off, as if it had gone.
  Status write(std::string_view piece) BATON_EXCLUDES(mutex_);
  void finish() BATON_EXCLUDES(mutex_);
  // Ends without an end: closes the connection once what was written is sent, so that the client
  // can tell a broken answer from a whole one.
  void abort() BATON_EXCLUDES(mutex_);

  // `callback` is called once if the client goes away (or is cut off) before the answer is
  // complete: on the loop's thread, or at once when it is so already. Replaces an earlier callback;
  // an empty function takes it back.
  void on_client_gone(std::function<void()> callback) BATON_EXCLUDES(mutex_);
  bool client_gone() const BATON_EXCLUDES(mutex_);

  // For back-pressure: bytes written that the kernel has not taken yet …
  size_t buffered_bytes() const BATON_EXCLUDES(mutex_);
  // … and a callback, on the loop's thread, each time that they have fallen to zero.
  void on_drained(std::function<void()> callback) BATON_EXCLUDES(mutex_);

  // ---- For the connection, on the loop's thread.
  struct Output {
    std::string bytes;
    bool complete = false;    // nothing follows these bytes
    bool keep_alive = false;  // with complete: the connection may serve another request
  };
  Output take_output() BATON_EXCLUDES(mutex_);
  // All bytes of the last Output have been sent.
  void output_sent() BATON_EXCLUDES(mutex_);
  // No more can be sent. Calls the client-gone callback unless the answer was complete.
  void connection_lost() BATON_EXCLUDES(mutex_);
  // The connection serves no further request.
  void refuse_keep_alive() BATON_EXCLUDES(mutex_);
  // Nothing will be taken any more: forget `wake`.
  void detach() BATON_EXCLUDES(mutex_);

 private:
  enum class State { kWaiting, kStreaming, kComplete };

  void respond_locked(int status, Headers headers, std::string_view body) BATON_REQUIRES(mutex_);
  void lose_locked() BATON_REQUIRES(mutex_);
  void wake_locked() BATON_REQUIRES(mutex_);

  const Request request_;
  const Options options_;

  mutable Mutex mutex_;
  std::function<void()> wake_ BATON_GUARDED_BY(mutex_);
  std::function<void()> gone_callback_ BATON_GUARDED_BY(mutex_);
  std::function<void()> drained_callback_ BATON_GUARDED_BY(mutex_);
  State state_ BATON_GUARDED_BY(mutex_) = State::kWaiting;
  std::string output_ BATON_GUARDED_BY(mutex_);
  size_t in_kernel_call_ BATON_GUARDED_BY(mutex_) = 0;  // bytes taken and not yet sent
  bool keep_alive_ BATON_GUARDED_BY(mutex_);
  bool gone_ BATON_GUARDED_BY(mutex_) = false;
  bool woken_ BATON_GUARDED_BY(mutex_) = false;
};

}  // namespace baton::http
