#include "transfer/ucx/async_hold.h"

#include <sys/eventfd.h>
#include <ucs/async/async_fwd.h>

#include <cerrno>
#include <cstring>

#include "transfer/ucx/ucp_context.h"

namespace baton::ucx {

Result<std::unique_ptr<AsyncHold>> AsyncHold::take(Duration deadline) {
  std::unique_ptr<AsyncHold> hold(new AsyncHold);
  BATON_RETURN_IF_ERROR(hold->start(deadline));
  return hold;
}

Status AsyncHold::start(Duration deadline) {
  event_ = UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_.valid())
    return Status(Code::kInternal, std::string("ucx channel: eventfd: ") + std::strerror(errno),
                  errno);
  // Without an async context no worker's lock is taken for it.
  const ucs_status_t status = ucs_async_set_event_handler(
      UCS_ASYNC_MODE_THREAD_SPINLOCK, event_.get(), UCS_EVENT_SET_EVREAD,
      [](int, ucs_event_set_types_t, void* self) { static_cast<AsyncHold*>(self)->stay(); }, this,
      nullptr);
  if (status != UCS_OK) return ucx_error("ucs_async_set_event_handler", status);
  registered_ = true;
  const TimePoint end = now() + deadline;
  MutexLock lock(mutex_);
  while (!held_) {
    if (!changed_.wait_until(mutex_, end) && !held_)
      return Status(Code::kDeadlineExceeded, "ucx channel: UCX's own thread does not answer");
  }
  return ok_status();
}

// The descriptor stays readable: called again before the handler is off, it returns at once.
void AsyncHold::stay() {
  MutexLock lock(mutex_);
  held_ = true;
  changed_.notify_all();
  while (!released_) changed_.wait(mutex_);
}

AsyncHold::~AsyncHold() {
  {
    MutexLock lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  // Returns once the handler does not run and will not run. UCX counts it as a user of the thread,
  // which so outlives whatever was destroyed under the hold.
  if (registered_) ucs_async_remove_handler(event_.get(), 1);
  MutexLock lock(mutex_);  // ThreadSanitizer sees no order in UCX, which is not instrumented
}

}  // namespace baton::ucx
