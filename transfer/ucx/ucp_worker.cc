#include "transfer/ucx/ucp_worker.h"

#include <sched.h>

#include <boost/asio/post.hpp>
#include <vector>

#include "transfer/base/log.h"
#include "transfer/base/mutex.h"
#include "transfer/ucx/async_hold.h"

namespace baton::ucx {
namespace {

// Between two turns everything else of the node has its turn.
constexpr unsigned kMostATurn = 64;

// What could not be destroyed safely: UCX's thread may use it as long as the process lives, its
// exit included. So none of this is ever destroyed, and all of it stays reachable.
class KeptForGood {
 public:
  static void add(std::shared_ptr<UcpContext> context, ucp_worker_h worker,
                  std::unique_ptr<UcpListener> listener) {
    static auto& all = *new KeptForGood;
    MutexLock lock(all.mutex_);
    all.kept_.push_back({std::move(context), worker, std::move(listener)});
  }

 private:
  struct Kept {
    std::shared_ptr<UcpContext> context;
    ucp_worker_h worker;
    std::unique_ptr<UcpListener> listener;
  };
  Mutex mutex_;
  std::vector<Kept> kept_ BATON_GUARDED_BY(mutex_);
};

}  // namespace

UcpWorker::UcpWorker(boost::asio::io_context& io, std::shared_ptr<UcpContext> context,
                     Duration spin, OnMessage on_message, Duration hold_deadline)
    : io_(io),
      context_(std::move(context)),
      spin_(spin),
      hold_deadline_(hold_deadline),
      on_message_(std::move(on_message)) {}

Result<std::shared_ptr<UcpWorker>> UcpWorker::create(boost::asio::io_context& io,
                                                     std::shared_ptr<UcpContext> context,
                                                     Duration spin, OnMessage on_message,
                                                     Duration hold_deadline) {
  std::shared_ptr<UcpWorker> worker(
      new UcpWorker(io, std::move(context), spin, std::move(on_message), hold_deadline));
  BATON_RETURN_IF_ERROR(worker->start());
  worker->wake();
  return worker;
}

Status UcpWorker::start() {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  // Created on one thread, used on another.
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  ucs_status_t status = ucp_worker_create(context_->handle(), &params, &worker_);
  if (status != UCS_OK) return ucx_error("ucp_worker_create", status);

  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS;
  handler.id = kMessageId;
  handler.cb = &UcpWorker::on_message;
  handler.arg = this;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG | UCP_AM_FLAG_PERSISTENT_DATA;
  status = ucp_worker_set_am_recv_handler(worker_, &handler);
  if (status != UCS_OK) return ucx_error("ucp_worker_set_am_recv_handler", status);

  int events = -1;
  status = ucp_worker_get_efd(worker_, &events);
  if (status != UCS_OK) return ucx_error("ucp_worker_get_efd", status);
  events_.emplace(io_);
  boost::system::error_code error;
  events_->assign(events, error);
  if (error)
    return Status(Code::kInternal, "ucx channel: the worker's events: " + error.message(),
                  error.value());
  return ok_status();
}

// A connection that was made and on which the peer has not asked for anything yet belongs to UCX's
// connection manager, points to the listener, and is taken apart by ucp_worker_destroy only; a
// request that comes on it, or on the listener while ucp_listener_destroy runs, is handled on UCX's
// own thread with the listener gone. So that thread is held from before the one to after the other.
UcpWorker::~UcpWorker() {
  stop();
  if (worker_ == nullptr) return;
  on_message_ = nullptr;  // what still comes while it goes
  std::unique_ptr<AsyncHold> hold;
  if (listener_) {
    auto taken = AsyncHold::take(hold_deadline_);
    if (!taken.ok()) {
      log::error(
          "ucx worker and its listener are kept for good, and the port stays open port={} "
          "why=\"{}\"",
          listener_->port(), taken.status().message());
      listener_->stop();
      KeptForGood::add(context_, worker_, std::move(listener_));
      return;
    }
    hold = std::move(*taken);
  }
  listener_.reset();
  ucp_worker_destroy(worker_);
}

void UcpWorker::stop() {
  if (!events_) return;
  // The descriptor is UCX's to close.
  if (events_->is_open()) events_->release();
  events_.reset();
}

Result<UcpListener*> UcpWorker::listen(const boost::asio::ip::tcp::endpoint& address,
                                       UcpListener::OnConnection on_connection) {
  BATON_CHECK(!listener_, "a worker listens once");
  BATON_ASSIGN_OR_RETURN(listener_,
                         UcpListener::create(worker_, address, std::move(on_connection)));
  return listener_.get();
}

ucs_status_t UcpWorker::on_message(void* self, const void* header, size_t header_bytes, void* data,
                                   size_t bytes, const ucp_am_recv_param_t* param) {
  const auto* worker = static_cast<const UcpWorker*>(self);
  if (!worker->on_message_) return UCS_OK;
  return worker->on_message_({static_cast<const std::byte*>(header), header_bytes}, data, bytes,
                             *param);
}

void UcpWorker::later(std::function<void()> what) { boost::asio::post(io_, std::move(what)); }

void UcpWorker::wake() {
  if (!events_ || std::exchange(turn_posted_, true)) return;
  boost::asio::post(io_, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->turn_posted_ = false;
    self->turn();
  });
}

void UcpWorker::turn() {
  if (!events_) return;
  unsigned moved = 0;
  while (moved < kMostATurn && ucp_worker_progress(worker_) != 0) ++moved;
  if (moved != 0) last_moved_ = now();
  if (moved == kMostATurn) return wake();
  if (now() - last_moved_ < spin_) {
    ::sched_yield();
    return wake();
  }
  block();
}

void UcpWorker::block() {
  const ucs_status_t status = ucp_worker_arm(worker_);
  if (status == UCS_ERR_BUSY) return wake();
  if (status != UCS_OK)
    log::error("ucx cannot arm its events why=\"{}\"", ucs_status_string(status));
  if (std::exchange(blocked_, true)) return;
  events_->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [weak = weak_from_this()](const boost::system::error_code& error) {
                        const auto self = weak.lock();
                        if (error || !self) return;
                        self->blocked_ = false;
                        self->turn();
                      });
}

bool UcpWorker::drain(const std::function<bool()>& done, Duration deadline) {
  const TimePoint end = now() + deadline;
  for (;;) {
    // What UCX closes it takes apart in later progress.
    if (ucp_worker_progress(worker_) != 0) {
      if (now() < end) continue;
      return done();
    }
    if (done()) return true;
    if (now() >= end) return false;
    ::sched_yield();
  }
}

}  // namespace baton::ucx
