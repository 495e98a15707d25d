// Time during which the thread that measures it ran. Whoever judges by it blames nobody for what
// passed while this process was stopped, or its thread held up.
//
// The thread looks once a `tick` while it measures. Of an interval between two looks that is longer
// than two ticks nothing counts: it did not run in part of it, and nobody knows in which. So what
// is judged too old was watched for so long, but for the one or two ticks that an absence may end
// in.
//
// Confined to one thread; time is passed in.
#pragma once

#include "transfer/base/clock.h"

namespace baton::cuda {

class ObservedTime {
 public:
  ObservedTime(TimePoint now, Duration tick) : tick_(tick), looked_(now) {}

  // Up to now, since this was made.
  Duration look(TimePoint now) {
    if (now - looked_ <= 2 * tick_) observed_ += now - looked_;
    looked_ = now;
    return observed_;
  }
  Duration tick() const { return tick_; }

 private:
  const Duration tick_;
  TimePoint looked_;
  Duration observed_{};
};

}  // namespace baton::cuda
