#include "transfer/local/staging_queue.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace baton::local {

void StagingQueue::freed() {
  MutexLock lock(mutex_);
  if (io_ == nullptr || std::exchange(posted_, true)) return;
  boost::asio::post(*io_, [self = shared_from_this()] { self->tell_all(); });
}

void StagingQueue::tell_all() {
  {
    MutexLock lock(mutex_);
    posted_ = false;  // what is freed from here on is told again
    if (io_ == nullptr) return;
  }
  for (size_t left = waiting_.size(); left > 0 && pool_->counts().free > 0; --left) {
    const auto tell = std::move(waiting_.front());
    waiting_.pop_front();
    tell();
  }
}

void StagingQueue::stop() {
  MutexLock lock(mutex_);
  io_ = nullptr;
}

}  // namespace baton::local
