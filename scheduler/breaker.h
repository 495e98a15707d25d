// Whether something that keeps failing is asked again: closed (it is), open (it is not, for a while
// that doubles each time), half open (one trial, to see).
//
// A value without a clock of its own.
//
// Thread safety: externally synchronised.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "transfer/base/clock.h"

namespace baton::scheduler {

class Breaker {
 public:
  struct Config {
    uint32_t failures = 5;  // in a row, until it opens
    Duration pause = std::chrono::seconds(1);
    Duration max_pause = std::chrono::seconds(60);
  };
  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };

  explicit Breaker(Config config) : config_(config), pause_(config.pause) {}

  // Whether to try now. Where it is open and the pause is over this is the trial, and the next one
  // comes a pause later: one whose outcome is never told blocks nobody for good.
  bool allows(TimePoint now) {
    if (state(now) == State::kClosed) return true;
    if (state(now) == State::kOpen) return false;
    retry_at_ = now + pause_;
    trial_ = true;
    return true;
  }
  void succeeded() {
    failures_ = 0;
    pause_ = config_.pause;
    trial_ = false;
  }
  void failed(TimePoint now) {
    const bool was_open = open();
    // What had been begun before it opened says nothing new: only a trial makes the pause longer.
    if (was_open && !std::exchange(trial_, false)) return;
    if (!was_open) ++failures_;
    if (!open()) return;
    if (was_open) pause_ = std::min(pause_ * 2, config_.max_pause);
    retry_at_ = now + pause_;
  }
  State state(TimePoint now) const {
    if (!open()) return State::kClosed;
    return now < retry_at_ ? State::kOpen : State::kHalfOpen;
  }

 private:
  bool open() const { return failures_ >= config_.failures; }

  Config config_;
  uint32_t failures_ = 0;  // in a row; stays at the bound while open
  bool trial_ = false;     // one was allowed, and its outcome is not told
  Duration pause_;
  TimePoint retry_at_{};
};

}  // namespace baton::scheduler
