#include "transfer/receive_feed.h"

#include "transfer/base/check.h"

namespace baton {

ReceiveFeed::ReceiveFeed(uint32_t layers, std::function<void()> wake,
                         std::function<void()> on_change)
    : wake_(std::move(wake)), on_change_(std::move(on_change)), layers_(layers, false) {}

void ReceiveFeed::accept(std::span<const uint32_t> blocks, uint32_t held_tokens) {
  {
    MutexLock lock(mutex_);
    BATON_CHECK(!next_.accepted, "a decode session accepts once");
    next_.accepted = true;
    next_.blocks.assign(blocks.begin(), blocks.end());
    next_.held_tokens = held_tokens;
  }
  wake_once();
}

void ReceiveFeed::refuse(std::string why) {
  {
    MutexLock lock(mutex_);
    next_.refused = std::move(why);
  }
  wake_once();
}

void ReceiveFeed::abort(std::string why) {
  {
    MutexLock lock(mutex_);
    if (next_.aborted) return;
    next_.aborted = std::move(why);
  }
  wake_once();
}

void ReceiveFeed::wake_once() {
  {
    MutexLock lock(mutex_);
    if (woken_) return;
    woken_ = true;
  }
  wake_();
}

ReceiveFeed::Update ReceiveFeed::drain() {
  MutexLock lock(mutex_);
  woken_ = false;
  return next_;
}

LoadProgress ReceiveFeed::view() const {
  MutexLock lock(mutex_);
  return view_;
}

HandoffReport ReceiveFeed::report() const {
  MutexLock lock(mutex_);
  return report_;
}

Status ReceiveFeed::wait_layer(uint32_t layer, TimePoint deadline) const {
  MutexLock lock(mutex_);
  BATON_CHECK(layer < layers_.size(), "wait_layer names a layer the node has not");
  while (!layers_[layer]) {
    // Every layer that is complete is told before the end: this one will not come.
    if (view_.state == LoadState::kFailed || view_.state == LoadState::kLoaded)
      return view_.why.ok() ? Status(Code::kUnavailable,
                                     "the handoff ended without layer " + std::to_string(layer))
                            : view_.why;
    if (!changed_.wait_until(mutex_, deadline) && !layers_[layer])
      return Status(Code::kDeadlineExceeded,
                    "layer " + std::to_string(layer) + " was not verified in time");
  }
  return ok_status();
}

void ReceiveFeed::set_state(LoadState state, uint32_t tokens, Status why, HandoffReport report) {
  {
    MutexLock lock(mutex_);
    view_ = LoadProgress{state, tokens, std::move(why)};
    report_ = std::move(report);
  }
  changed_.notify_all();
  if (on_change_) on_change_();
}

void ReceiveFeed::layer_complete(uint32_t layer) {
  {
    MutexLock lock(mutex_);
    layers_[layer] = true;
  }
  changed_.notify_all();
}

}  // namespace baton
