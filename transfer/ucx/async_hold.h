// Holds UCX's own thread, the one on which UCX handles what comes of connections being made, for
// all workers of the process: as long as one of these lives, nothing is handled there.
//
// Any thread but UCX's own. Several at once wait for one another.
#pragma once

#include <memory>

#include "transfer/base/clock.h"
#include "transfer/base/mutex.h"
#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"

namespace baton::ucx {

class AsyncHold {
 public:
  // Waits until the thread is through with what it has at hand. Errors: kDeadlineExceeded;
  // kInternal where UCX takes no handler.
  static Result<std::unique_ptr<AsyncHold>> take(Duration deadline);
  ~AsyncHold();
  AsyncHold(const AsyncHold&) = delete;
  AsyncHold& operator=(const AsyncHold&) = delete;

 private:
  AsyncHold() = default;
  Status start(Duration deadline);
  void stay();  // on UCX's thread

  UniqueFd event_;           // readable from the beginning
  bool registered_ = false;  // with UCX
  Mutex mutex_;
  CondVar changed_;
  bool held_ BATON_GUARDED_BY(mutex_) = false;
  bool released_ BATON_GUARDED_BY(mutex_) = false;
};

}  // namespace baton::ucx
