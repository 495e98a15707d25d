// A node as Python holds it: shared by its sessions, so that it outlives them whatever the order in
// which the interpreter drops them.
//
// No callback of a session enters the interpreter, because a progress thread that waits for the GIL
// would wait for the engine: it leaves the session's tag in the node's Notices, which the engine's
// thread takes when it next looks.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

#include "transfer/base/mutex.h"
#include "transfer/node.h"

namespace baton::python {

// A Status on its way to Python, where it becomes baton.Error with the code's name.
class StatusError : public std::runtime_error {
 public:
  explicit StatusError(const Status& status)
      : std::runtime_error(status.message()), code(code_name(status.code())) {}
  const char* code;
};

inline void throw_if_error(const Status& status) {
  if (!status.ok()) throw StatusError(status);
}

template <typename T>
T value_or_throw(Result<T> result) {
  throw_if_error(result.status());
  return std::move(result).value();
}

// Tags of sessions that have something new to say, each at most once until it is taken: bounded by
// the number of sessions. Thread-safe.
class Notices {
 public:
  void post(uint64_t tag);
  std::vector<uint64_t> take();
  // Waits until there is one; false when the time has passed. Not on the progress thread.
  bool wait(Duration deadline);

 private:
  Mutex mutex_;
  CondVar posted_;
  std::unordered_set<uint64_t> tags_ BATON_GUARDED_BY(mutex_);
};

// Thread-safe, but close() must not run beside another call.
class NodeHandle {
 public:
  // Blocks while memory is reserved: call it without the GIL.
  explicit NodeHandle(NodeConfig config);

  // kUnavailable (thrown) after close().
  Node& node();
  const std::shared_ptr<Notices>& notices() const { return notices_; }

  // What Node's destructor does; without the GIL. Throws while sessions are there.
  void close();
  bool closed() const { return node_ == nullptr; }

  void add_session() { ++sessions_; }
  void remove_session() { --sessions_; }

 private:
  std::unique_ptr<Node> node_;
  const std::shared_ptr<Notices> notices_ = std::make_shared<Notices>();
  std::atomic<uint32_t> sessions_{0};
};

}  // namespace baton::python
