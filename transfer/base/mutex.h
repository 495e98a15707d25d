// A mutex whose use clang's thread-safety analysis checks, and the annotations for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define BATON_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define BATON_THREAD_ANNOTATION(x)
#endif

#define BATON_CAPABILITY(x) BATON_THREAD_ANNOTATION(capability(x))
#define BATON_SCOPED_CAPABILITY BATON_THREAD_ANNOTATION(scoped_lockable)
#define BATON_GUARDED_BY(x) BATON_THREAD_ANNOTATION(guarded_by(x))
#define BATON_REQUIRES(...) BATON_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define BATON_EXCLUDES(...) BATON_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define BATON_ACQUIRE(...) BATON_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define BATON_RELEASE(...) BATON_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define BATON_NO_THREAD_SAFETY_ANALYSIS BATON_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace baton {

class BATON_CAPABILITY("mutex") Mutex {
 public:
  void lock() BATON_ACQUIRE() { mutex_.lock(); }
  void unlock() BATON_RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class BATON_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) BATON_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() BATON_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  void notify_one() { cv_.notify_one(); }
  void notify_all() { cv_.notify_all(); }
  // Waits once (spurious wake-ups included); the caller loops over its condition.
  void wait(Mutex& mutex) BATON_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False when the deadline has passed.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline)
      BATON_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }

 private:
  std::condition_variable cv_;
};

}  // namespace baton
