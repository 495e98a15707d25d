#include "router/http/client.h"

#include <atomic>
#include <boost/asio/post.hpp>
#include <future>
#include <optional>

#include "router/http/call.h"

namespace baton::http {

namespace asio = boost::asio;

Client::Client(EventLoop& loop, ClientConfig config)
    : loop_(loop), shared_(std::make_shared<Shared>(loop, config)) {}

Client::~Client() {
  BATON_CHECK(!loop_.on_loop_thread(), "Client's destructor would wait for its own thread");
  std::promise<void> cancelled;
  loop_.post([&] {
    shared_->stopping = true;
    for (const auto& [key, call] : std::unordered_map(shared_->calls)) call->cancel();
    shared_->idle.clear();
    cancelled.set_value();
  });
  cancelled.get_future().wait();
  MutexLock lock(shared_->mutex);
  while (shared_->running > 0) shared_->ended.wait(shared_->mutex);
}

std::shared_ptr<Call> Client::start(const HostPort& to, Request request, const CallOptions& options,
                                    CallHandlers handlers) {
  {
    MutexLock lock(shared_->mutex);
    ++shared_->running;
  }
  const auto call =
      std::make_shared<RunningCall>(shared_, to, std::move(request), options, std::move(handlers));
  loop_.post([call] { call->spawn(); });
  return call;
}

Result<Response> Client::fetch(const HostPort& to, Request request, const CallOptions& options,
                               size_t max_body_bytes) {
  BATON_CHECK(!loop_.on_loop_thread(), "Client::fetch would wait for its own thread");
  // The callbacks share this with the caller, who waits for the last of them.
  struct Gathered {
    Response response;
    bool too_large = false;
    std::promise<Status> ended;
  } gathered;
  std::shared_ptr<Call> call;
  CallHandlers handlers;
  handlers.on_head = [&](const ResponseHead& head) {
    gathered.response.status = head.status;
    gathered.response.headers = head.headers;
  };
  handlers.on_body = [&](std::string_view piece) {
    gathered.too_large |= gathered.response.body.size() + piece.size() > max_body_bytes;
    if (!gathered.too_large) gathered.response.body += piece;
  };
  handlers.on_end = [&](const CallEnd& end) { gathered.ended.set_value(end.status); };
  call = start(to, std::move(request), options, std::move(handlers));
  const Status status = gathered.ended.get_future().get();
  if (gathered.too_large) {
    return Status(Code::kResourceExhausted,
                  "the answer is larger than " + std::to_string(max_body_bytes) + " bytes");
  }
  if (!status.ok()) return status;
  return std::move(gathered.response);
}

}  // namespace baton::http
