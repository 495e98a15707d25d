#include "transfer/send_feed.h"

#include <algorithm>

#include "transfer/base/check.h"

namespace baton {

SendFeed::SendFeed(uint32_t layers, std::function<void()> wake) : wake_(std::move(wake)) {
  next_.layer_tokens.assign(layers, 0);
}

void SendFeed::begin(std::span<const uint32_t> blocks, uint32_t cached_tokens) {
  {
    MutexLock lock(mutex_);
    BATON_CHECK(!next_.begun, "a prefill session begins once");
    next_.begun = true;
    begun_at_ = now();
    next_.new_blocks.insert(next_.new_blocks.end(), blocks.begin(), blocks.end());
    std::fill(next_.layer_tokens.begin(), next_.layer_tokens.end(), cached_tokens);
  }
  wake_once();
}

void SendFeed::extend(std::span<const uint32_t> blocks) {
  // No wake-up: blocks matter only once a layer of them is ready.
  MutexLock lock(mutex_);
  next_.new_blocks.insert(next_.new_blocks.end(), blocks.begin(), blocks.end());
}

void SendFeed::layer_ready(uint32_t layer, uint32_t tokens) {
  {
    MutexLock lock(mutex_);
    BATON_CHECK(layer < next_.layer_tokens.size(), "layer_ready names a layer the node has not");
    next_.layer_tokens[layer] = std::max(next_.layer_tokens[layer], tokens);
    next_.compute = now() - begun_at_;
  }
  wake_once();
}

void SendFeed::finish() {
  {
    MutexLock lock(mutex_);
    next_.finished = true;
  }
  wake_once();
}

void SendFeed::abort(std::string why) {
  {
    MutexLock lock(mutex_);
    if (next_.finished || next_.aborted) return;
    next_.aborted = std::move(why);
  }
  wake_once();
}

void SendFeed::revoke(std::string why) {
  {
    MutexLock lock(mutex_);
    if (next_.revoked) return;
    next_.revoked = std::move(why);
  }
  wake_once();
}

void SendFeed::wake_once() {
  {
    MutexLock lock(mutex_);
    if (woken_) return;
    woken_ = true;
  }
  wake_();
}

SendFeed::Update SendFeed::drain() {
  MutexLock lock(mutex_);
  woken_ = false;
  Update update = next_;
  next_.new_blocks.clear();
  return update;
}

HandoffReport SendFeed::report() const {
  MutexLock lock(mutex_);
  return report_;
}

void SendFeed::set_report(HandoffReport report) {
  MutexLock lock(mutex_);
  report_ = std::move(report);
}

}  // namespace baton
