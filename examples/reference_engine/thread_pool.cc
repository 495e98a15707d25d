#include "examples/reference_engine/thread_pool.h"

namespace baton::reference {
namespace {

constexpr int kSpins = 1000;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns when `value` is no longer `old`.
void await_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(uint32_t threads) {
  for (uint32_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_release);
  loop_.fetch_add(1, std::memory_order_release);
  loop_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::parallel_for(uint32_t items, const Body& body) {
  if (items <= 1 || workers_.empty()) {
    for (uint32_t i = 0; i < items; ++i) body(i, 0);
    return;
  }
  // All items of the last loop are done, so nobody holds a claim; stale readers of body_ and
  // items_ fail their compare-and-swap.
  body_.store(&body, std::memory_order_relaxed);
  items_.store(items, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t number = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  ticket_.store(number << 32 | items, std::memory_order_release);
  loop_.fetch_add(1, std::memory_order_release);
  loop_.notify_all();
  drain(0);
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != items;) {
    await_change(done_, done);
  }
}

void ThreadPool::drain(uint32_t thread) {
  for (uint64_t ticket = ticket_.load(std::memory_order_acquire); uint32_t(ticket) != 0;) {
    const Body* body = body_.load(std::memory_order_relaxed);
    const uint32_t items = items_.load(std::memory_order_relaxed);
    if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    (*body)(items - uint32_t(ticket), thread);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == items) done_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::work(uint32_t thread) {
  uint32_t seen = 0;
  for (;;) {
    await_change(loop_, seen);
    seen = loop_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_acquire)) return;
    drain(thread);
  }
}

}  // namespace baton::reference
