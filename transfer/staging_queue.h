// Who waits for memory of the transit pool that all channels of a node share, in the order in
// which they began to wait.
//
// wait() and the waiters' calls are confined to the io_context's thread; freed() is thread-safe.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "transfer/base/mutex.h"
#include "transfer/slot_pool.h"

namespace boost::asio {
class io_context;
}

namespace baton {

class StagingQueue : public std::enable_shared_from_this<StagingQueue> {
 public:
  // `pool` may be null where nobody waits.
  StagingQueue(boost::asio::io_context& io, std::shared_ptr<SlotPool> pool)
      : pool_(std::move(pool)), io_(&io) {}

  // `tell` is called once, on the io_context's thread and not inside freed(), while memory is free.
  // Who waits again stands behind the others; who was not told, because those before him took all,
  // keeps his place.
  void wait(std::function<void()> tell) { waiting_.push_back(std::move(tell)); }
  void freed();
  // From now on nobody is told; the io_context may go.
  void stop();

 private:
  void tell_all();

  const std::shared_ptr<SlotPool> pool_;
  std::deque<std::function<void()>> waiting_;
  Mutex mutex_;
  boost::asio::io_context* io_ BATON_GUARDED_BY(mutex_);  // null once stopped
  bool posted_ BATON_GUARDED_BY(mutex_) = false;
};

}  // namespace baton
