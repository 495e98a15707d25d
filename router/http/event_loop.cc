#include "router/http/event_loop.h"

#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <thread>

namespace baton::http {

namespace asio = boost::asio;

struct Timer::State {
  explicit State(asio::io_context& context) : timer(context) {}
  std::atomic<bool> cancelled{false};
  asio::steady_timer timer;  // used on the loop's thread only, but for its construction
};

struct EventLoop::Impl {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  std::thread thread;
};

void Timer::reset() {
  if (!state_) return;
  state_->cancelled.store(true, std::memory_order_release);
  // Frees the function and what it holds; the timer object belongs to the loop's thread.
  asio::dispatch(state_->timer.get_executor(), [state = state_] { state->timer.cancel(); });
  state_.reset();
}

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {
  impl_->thread = std::thread([&context = impl_->context] { context.run(); });
}

EventLoop::~EventLoop() {
  impl_->work.reset();
  impl_->context.stop();
  impl_->thread.join();
}

void EventLoop::post(std::function<void()> function) {
  asio::post(impl_->context, std::move(function));
}

Timer EventLoop::after(Duration delay, std::function<void()> function) {
  Timer handle;
  handle.state_ = std::make_shared<Timer::State>(impl_->context);
  handle.state_->timer.expires_after(delay);
  handle.state_->timer.async_wait(
      [state = handle.state_, function = std::move(function)](boost::system::error_code error) {
        if (!error && !state->cancelled.load(std::memory_order_acquire)) function();
      });
  return handle;
}

bool EventLoop::on_loop_thread() const {
  return impl_->thread.get_id() == std::this_thread::get_id();
}

asio::io_context& EventLoop::context() { return impl_->context; }

}  // namespace baton::http
