#include "transfer/staging_queue.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "transfer/channel_endpoint.h"

namespace baton {

ChannelMemory ChannelMemory::create(boost::asio::io_context& io, std::shared_ptr<SlotPool> transit,
                                    std::shared_ptr<SlotPool> retained) {
  auto queue = std::make_shared<StagingQueue>(io, transit);
  // Weak: the queue keeps the pool, which keeps this callback.
  if (transit)
    transit->on_free([weak = std::weak_ptr(queue)] {
      if (const auto queue = weak.lock()) queue->freed();
    });
  return {std::move(transit), std::move(retained), std::move(queue)};
}

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

}  // namespace baton
