// One thread that runs the sockets and timers of servers and clients.
//
// Thread-safe. Declare it before (destroy it after) the servers and clients that use it.
#pragma once

#include <functional>
#include <memory>

#include "transfer/base/clock.h"

namespace boost::asio {
class io_context;
}

namespace baton::http {

// A pending call of a function. Destroying or resetting it on the loop's thread means that the
// function does not run any more; from another thread it may be running just then. Must not
// outlive the loop.
class Timer {
 public:
  Timer() = default;
  Timer(Timer&&) noexcept = default;
  Timer& operator=(Timer&& other) noexcept {
    reset();
    state_ = std::move(other.state_);
    return *this;
  }
  ~Timer() { reset(); }
  void reset();

 private:
  friend class EventLoop;
  struct State;
  std::shared_ptr<State> state_;
};

class EventLoop {
 public:
  // Starts the thread. It blocks while there is nothing to do.
  EventLoop();
  // Stops the thread and joins it; functions that are still queued are dropped.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Runs `function` on the loop's thread; never at once.
  void post(std::function<void()> function);
  // Runs `function` on the loop's thread once `delay` has passed, unless the Timer ends first.
  [[nodiscard]] Timer after(Duration delay, std::function<void()> function);
  bool on_loop_thread() const;

  // For the .cc files of this library.
  boost::asio::io_context& context();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::http
