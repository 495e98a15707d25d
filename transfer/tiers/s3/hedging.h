// When a GET that is silent is asked a second time, and how often that may be: later than 95 of
// 100 recent ones took until something came, and of a bounded share of all.
//
// A value without a clock. Externally synchronised.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "transfer/base/clock.h"

namespace baton::s3 {

class Hedging {
 public:
  static constexpr size_t kSamples = 128;  // the recent ones
  static constexpr size_t kFewest = 16;    // that a percentile is taken of
  static constexpr double kMaxSaved = 4;   // hedges at once after a time without

  Hedging(double share, Duration least) : share_(share), least_(least) {}

  // A GET was begun; its share of a hedge is saved.
  void began() { saved_ = std::min(kMaxSaved, saved_ + share_); }
  // Something came, after that long.
  void answered(Duration after) {
    samples_[next_ % kSamples] = after;
    ++next_;
  }
  // After how long a silence; nothing where there is none to be had.
  std::optional<Duration> delay() const {
    if (share_ <= 0 || next_ < kFewest) return std::nullopt;
    auto samples = samples_;
    const size_t count = std::min(next_, kSamples);
    const auto at = samples.begin() + static_cast<std::ptrdiff_t>(count * 95 / 100);
    std::nth_element(samples.begin(), at, samples.begin() + static_cast<std::ptrdiff_t>(count));
    return std::max(*at, least_);
  }
  bool may() const { return saved_ >= 1; }
  void take() { saved_ -= 1; }

 private:
  double share_;
  Duration least_;
  double saved_ = 1;
  std::array<Duration, kSamples> samples_{};
  size_t next_ = 0;
};

}  // namespace baton::s3
