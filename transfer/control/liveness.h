// Whether a peer is alive, judged by when its last frame came.
//
//   heard ── heartbeats_missed intervals without a frame ──> stalled ── a frame ──> heard
//
// Confined to one thread; time is passed in.
#pragma once

#include <algorithm>
#include <cstdint>

#include "transfer/base/clock.h"

namespace baton::control {

class Liveness {
 public:
  Liveness(TimePoint now, Duration interval, uint32_t heartbeats_missed)
      : interval_(interval), limit_(interval * heartbeats_missed), heard_(now) {}

  struct Verdict {
    uint32_t newly_missed = 0;  // heartbeats that did not come since the last judgement
    bool stalls = false;        // it was heard and is now stalled
  };

  // A frame came; true where the peer was stalled and is no more.
  bool heard(TimePoint now) {
    heard_ = now;
    missed_ = 0;
    const bool resumed = stalled_;
    stalled_ = false;
    return resumed;
  }

  // This process itself did not run for so long: the peer is not to blame for that silence.
  void excuse(TimePoint now, Duration absence) { heard_ = std::min(now, heard_ + absence); }

  Verdict judge(TimePoint now) {
    Verdict verdict;
    // A heartbeat is missed once it is a whole interval late.
    const int64_t intervals = (now - heard_) / interval_;
    if (intervals - 1 > missed_) {
      verdict.newly_missed = static_cast<uint32_t>(intervals - 1 - missed_);
      missed_ = intervals - 1;
    }
    verdict.stalls = !stalled_ && now - heard_ >= limit_;
    return verdict;
  }
  void set_stalled() { stalled_ = true; }

  bool stalled() const { return stalled_; }
  // When judge() would say `stalls` if nothing is heard until then.
  TimePoint stalls_at() const { return heard_ + limit_; }
  Duration silence(TimePoint now) const { return now - heard_; }

 private:
  Duration interval_;
  Duration limit_;
  TimePoint heard_;
  int64_t missed_ = 0;  // of this silence, counted already
  bool stalled_ = false;
};

}  // namespace baton::control
