// An engine (or a node's HTTP) whose every answer the test gives by hand.
//
// /health is answered by itself, unless it is to be held; every other request waits in next() until
// the test takes it and answers on it, so that a test orders what happens without sleeping.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "router/http/server.h"
#include "transfer/base/mutex.h"

namespace baton::test {

inline constexpr auto kPatience = std::chrono::seconds(20);

class FakeEngine {
 public:
  explicit FakeEngine(http::EventLoop& loop) : loop_(loop) { start({"127.0.0.1", 0}); }

  const HostPort& address() const { return address_; }
  std::string url() const { return "http://" + address_.to_string(); }

  // The next request, in the order of arrival; a null pointer and a failed test after 20 s.
  std::shared_ptr<http::Exchange> next() {
    MutexLock lock(mutex_);
    const auto deadline = now() + kPatience;
    while (waiting_.empty()) {
      if (!arrived_.wait_until(mutex_, deadline)) {
        ADD_FAILURE() << "no request came to " << address_.to_string();
        return nullptr;
      }
    }
    auto exchange = std::move(waiting_.front());
    waiting_.pop_front();
    return exchange;
  }
  // Whether nothing waits in next(). Says nothing about what is still on its way.
  bool empty() {
    MutexLock lock(mutex_);
    return waiting_.empty();
  }

  void answer_health(int status) { health_ = status; }
  // From now on /health gets no answer.
  void hold_health() { health_ = kHeld; }
  // Waits until somebody waits for /health, which is held; a failed test after 20 s.
  void wait_for_probe() {
    MutexLock lock(mutex_);
    const auto deadline = now() + kPatience;
    while (held_.empty()) {
      if (!arrived_.wait_until(mutex_, deadline)) {
        ADD_FAILURE() << "no probe came to " << address_.to_string();
        return;
      }
    }
  }
  // What was held is answered now, with 200, and what comes later at once.
  void release_health() {
    MutexLock lock(mutex_);
    health_ = 200;
    for (const auto& exchange : std::exchange(held_, {})) exchange->respond(200, {}, "");
  }
  // Dies: every connection is cut, new ones are refused.
  void die() {
    server_.reset();
    MutexLock lock(mutex_);
    waiting_.clear();
    held_.clear();
  }
  // Comes back at the same address.
  void revive() { start(address_); }

 private:
  void start(const HostPort& address) {
    auto server = http::Server::listen(loop_, address, {}, [this](auto e) { take(std::move(e)); });
    ASSERT_TRUE(server.ok()) << server.status().to_string();
    server_ = std::move(server).value();
    address_ = server_->address();
  }
  void take(std::shared_ptr<http::Exchange> exchange) {
    MutexLock lock(mutex_);
    const bool probe = exchange->request().path() == "/health";
    if (const int health = health_; probe && health != kHeld) {
      return exchange->respond(health, {}, "");
    }
    (probe ? held_ : waiting_).push_back(std::move(exchange));
    arrived_.notify_all();
  }

  static constexpr int kHeld = 0;

  http::EventLoop& loop_;
  HostPort address_;
  std::atomic<int> health_{200};
  Mutex mutex_;
  CondVar arrived_;
  std::deque<std::shared_ptr<http::Exchange>> waiting_ BATON_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<http::Exchange>> held_ BATON_GUARDED_BY(mutex_);
  std::unique_ptr<http::Server> server_;
};

// Waits until the client of `exchange` has gone; false after 20 s.
inline bool wait_until_gone(http::Exchange& exchange) {
  auto gone = std::make_shared<std::promise<void>>();
  exchange.on_client_gone([gone] { gone->set_value(); });
  return gone->get_future().wait_for(kPatience) == std::future_status::ready;
}

}  // namespace baton::test
