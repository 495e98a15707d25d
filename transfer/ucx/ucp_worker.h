// UCX's worker, progressed by an io_context: it blocks on the worker's event descriptor once there
// is nothing left to do, and looks again for a bounded time after something moved.
//
// Confined to the io_context's thread. UCX's own callbacks come inside ucp_worker_progress and do
// next to nothing there: what follows from them is posted.
#pragma once

#include <ucp/api/ucp.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "transfer/base/clock.h"
#include "transfer/ucx/ucp_context.h"
#include "transfer/ucx/ucp_listener.h"

namespace baton::ucx {

class UcpWorker : public std::enable_shared_from_this<UcpWorker> {
 public:
  // An active message has come; `data` as UCX's callback has it, and the same is returned. Runs
  // inside UCX: of its functions only ucp_am_recv_data_nbx and ucp_am_send_nbx may be called.
  using OnMessage = std::function<ucs_status_t(std::span<const std::byte> header, void* data,
                                               size_t bytes, const ucp_am_recv_param_t& param)>;
  static constexpr unsigned kMessageId = 0;
  // UCX's thread handles a connection in microseconds, and is held for as long as a worker takes to
  // go, which is milliseconds.
  static constexpr Duration kHoldDeadline = std::chrono::seconds(5);

  // `hold_deadline`: how long the end of a worker that listens waits for UCX's thread.
  static Result<std::shared_ptr<UcpWorker>> create(boost::asio::io_context& io,
                                                   std::shared_ptr<UcpContext> context,
                                                   Duration spin, OnMessage on_message,
                                                   Duration hold_deadline = kHoldDeadline);
  // Endpoints, requests and received bytes each keep the worker; so this is the last of them, and
  // the listener goes with it. Where there is a listener it blocks until UCX's thread is held, at
  // most `hold_deadline`; after that worker, listener and context stay for the process's life.
  ~UcpWorker();

  ucp_worker_h handle() const { return worker_; }  // borrowed

  // Peers may connect from now on. Called once. The listener is the worker's, and lives as long.
  // Errors: kUnavailable where the address cannot be listened at.
  Result<UcpListener*> listen(const boost::asio::ip::tcp::endpoint& address,
                              UcpListener::OnConnection on_connection);
  // Runs on the io_context, not inside this call, nor inside UCX.
  void later(std::function<void()> what);
  // Something was started that needs progress.
  void wake();
  // Progresses on the spot until `done` holds and nothing moves any more; whether `done` held
  // within the deadline.
  bool drain(const std::function<bool()>& done, Duration deadline);
  // Nothing progresses by itself any more, and nothing of the io_context is used.
  void stop();

 private:
  UcpWorker(boost::asio::io_context& io, std::shared_ptr<UcpContext> context, Duration spin,
            OnMessage on_message, Duration hold_deadline);
  Status start();
  void turn();
  void block();
  static ucs_status_t on_message(void* self, const void* header, size_t header_bytes, void* data,
                                 size_t bytes, const ucp_am_recv_param_t* param);

  boost::asio::io_context& io_;
  const std::shared_ptr<UcpContext> context_;
  const Duration spin_;
  const Duration hold_deadline_;
  OnMessage on_message_;
  ucp_worker_h worker_ = nullptr;
  std::unique_ptr<UcpListener> listener_;                        // null before listen()
  std::optional<boost::asio::posix::stream_descriptor> events_;  // none once stopped
  TimePoint last_moved_{};
  bool turn_posted_ = false;
  bool blocked_ = false;  // waits for the descriptor
};

// Bytes of a message that UCX keeps for us past its callback.
class HeldData {
 public:
  HeldData(std::shared_ptr<UcpWorker> worker, void* data)
      : worker_(std::move(worker)), data_(data) {}
  ~HeldData() { ucp_am_data_release(worker_->handle(), data_); }
  HeldData(const HeldData&) = delete;
  HeldData& operator=(const HeldData&) = delete;

 private:
  const std::shared_ptr<UcpWorker> worker_;
  void* const data_;
};

}  // namespace baton::ucx
