// Driving an io_context from a test's own thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>

#include "transfer/base/clock.h"

namespace baton::testing {

// Wide: how long a test waits for what must come.
inline constexpr auto kPatience = std::chrono::seconds(30);

// Runs the loop until `condition` holds; false when it does not within kPatience.
inline bool run_until(boost::asio::io_context& io, const std::function<bool()>& condition) {
  const TimePoint deadline = now() + kPatience;
  while (!condition()) {
    if (now() >= deadline) return false;
    io.restart();
    io.run_one_for(std::chrono::milliseconds(20));
  }
  return true;
}

// Runs the loop for that long: for what must not come.
inline void run_for(boost::asio::io_context& io, Duration duration) {
  io.restart();
  io.run_for(duration);
}

}  // namespace baton::testing
