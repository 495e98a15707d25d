// HTTP/1.1 client: one call is one request; its answer comes in pieces as they arrive.
//
// Connections are kept for a short while and used again. Starting is thread-safe; a call's
// callbacks run on the loop's thread, and its functions are thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "router/http/event_loop.h"
#include "router/http/message.h"

namespace baton::http {

struct CallOptions {
  Duration connect_deadline = std::chrono::seconds(2);
  Duration deadline = std::chrono::seconds(30);  // for all of it, connecting included
  // False: ends the connection after this call. For servers that spend a thread on each.
  bool keep_alive = true;
};

// How far a call got, which is what decides whether another instance may be asked instead.
enum class CallStage {
  kConnecting,  // the other side has not seen the request
  kWaiting,     // it may have seen the request; nothing of an answer has come
  kAnswering,   // the head of the answer has come
};

struct CallEnd {
  Status status;  // ok; kUnavailable (cannot connect, connection lost), kDeadlineExceeded,
                  // kCancelled, kProtocol (the answer is no HTTP)
  CallStage stage = CallStage::kConnecting;
};

// on_head and on_body are left out where empty. on_end is called exactly once, last, and never
// before start() has returned. All are destroyed after it.
struct CallHandlers {
  std::function<void(const ResponseHead&)> on_head;
  std::function<void(std::string_view piece)> on_body;
  std::function<void(const CallEnd&)> on_end;
};

class Call {
 public:
  virtual ~Call() = default;
  // Closes the connection, so that the other side notices; on_end follows with kCancelled unless
  // the call has ended already.
  virtual void cancel() = 0;
  // Back-pressure: reads no more of the answer until resume(). A piece that has been read already
  // may still come.
  virtual void pause() = 0;
  virtual void resume() = 0;
};

struct ClientConfig {
  size_t max_idle_connections = 64;  // to one address
  // Shorter than the shortest keep-alive of the usual servers (uvicorn: 5 s, a node's HTTP: 2 s),
  // so that a connection is rarely closed by the other side just when it is used again.
  Duration max_idle = std::chrono::milliseconds(1500);
  size_t max_header_bytes = 64 << 10;
};

class Client {
 public:
  // The loop must outlive the client.
  explicit Client(EventLoop& loop, ClientConfig config = {});
  // Cancels the calls that run and waits until they have ended. Not on the loop's thread.
  ~Client();

  // Sends `request` to `to`; Host, Content-Length and Connection are added.
  std::shared_ptr<Call> start(const HostPort& to, Request request, const CallOptions& options,
                              CallHandlers handlers);

  // The same, blocking, with the body in one piece of at most `max_body_bytes` (else
  // kResourceExhausted). Not to be called on the loop's thread.
  Result<Response> fetch(const HostPort& to, Request request, const CallOptions& options = {},
                         size_t max_body_bytes = 64 << 20);

  struct Shared;  // what the calls share with the client; in client.cc

 private:
  EventLoop& loop_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace baton::http
