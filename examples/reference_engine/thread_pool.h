// A few threads that share the items of one parallel loop at a time.
//
// Items are claimed one by one, so a thread that the machine holds up delays the loop by one item
// at most; which thread computes an item never changes its result. Workers spin for some tens of
// microseconds between loops (a step has hundreds of short ones), then block.
// Confined to the thread that calls parallel_for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace baton::reference {

class ThreadPool {
 public:
  // threads: including the caller; 1 starts none.
  explicit ThreadPool(uint32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }
  // Calls body(item, thread) for every item below `items`, thread below threads(); returns when
  // all have returned. What they wrote is visible to the caller.
  using Body = std::function<void(uint32_t item, uint32_t thread)>;
  void parallel_for(uint32_t items, const Body& body);

 private:
  void work(uint32_t thread);
  // Claims and runs items of the present loop until none is left.
  void drain(uint32_t thread);

  // High half: number of the loop; low half: items not yet claimed. A claim is a compare-and-swap
  // of the whole, so a thread that read body_ of one loop can never run an item of another.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<const Body*> body_{nullptr};
  std::atomic<uint32_t> items_{0};
  std::atomic<uint32_t> done_{0};
  std::atomic<uint32_t> loop_{0};  // what blocked workers wait on
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace baton::reference
