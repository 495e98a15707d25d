// A recording of what a node does for its handoffs, segment by segment, for people to look at: null
// in products (NodeConfig::timeline), so that nothing is recorded and nothing is paid.
//
// add() is confined to the progress thread of the one node that records; events() may be called by
// any thread at any time and shows what had been added by then.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/base/ids.h"

namespace baton {

struct TimelineEvent {
  enum class Stage : uint8_t {
    kCompute,        // the engine computed a layer, as far as the progress thread knows
    kGather,         // blocks to payload
    kSend,           // given to the channel: a moment; what follows shows at the receiver
    kVerifyScatter,  // payload to blocks, checked
  };
  Stage stage = Stage::kCompute;
  HandoffAttempt handoff;
  uint32_t chunk = 0;
  uint32_t layer = 0;
  uint64_t bytes = 0;
  TimePoint begin{};
  TimePoint end{};
};

class Timeline {
 public:
  // Memory for all events is taken at once; what does not fit is counted and left out.
  explicit Timeline(size_t capacity = size_t{1} << 18) : events_(capacity) {}

  void add(const TimelineEvent& event) {
    const size_t at = size_.load(std::memory_order_relaxed);
    if (at == events_.size()) {
      left_out_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    events_[at] = event;
    size_.store(at + 1, std::memory_order_release);
  }

  std::span<const TimelineEvent> events() const {
    return {events_.data(), size_.load(std::memory_order_acquire)};
  }
  size_t left_out() const { return left_out_.load(std::memory_order_relaxed); }

 private:
  std::vector<TimelineEvent> events_;  // up to size_ constant
  std::atomic<size_t> size_{0};
  std::atomic<size_t> left_out_{0};
};

}  // namespace baton
