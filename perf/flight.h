// A batch of handoffs on its way, as the sending engine has it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "connectors/prefill_session.h"
#include "perf/landings.h"
#include "transfer/base/mutex.h"

namespace baton::bench {

// Callbacks may come after this is gone. Externally synchronised.
class Flight {
 public:
  explicit Flight(Batch batch) : batch(batch) {}

  // Everything was acknowledged or has failed.
  bool over() const {
    MutexLock lock(state_->mutex);
    return state_->released == batch.count;
  }
  Status wait_released(TimePoint deadline) const {
    MutexLock lock(state_->mutex);
    while (state_->released < batch.count) {
      if (!state_->changed.wait_until(state_->mutex, deadline) && now() >= deadline)
        return Status(Code::kDeadlineExceeded, "the sender's blocks were not released in time");
    }
    return ok_status();
  }
  std::function<void()> on_released() {
    return [state = state_] {
      MutexLock lock(state->mutex);
      ++state->released;
      state->changed.notify_all();
    };
  }

  const Batch batch;
  std::vector<std::unique_ptr<PrefillSession>> sessions;
  std::vector<TimePoint> begun_at;
  double cpu = 0, other_cpu = 0;  // before
  Json stages, other_stages;      // before

 private:
  struct State {
    mutable Mutex mutex;
    CondVar changed;
    uint32_t released BATON_GUARDED_BY(mutex) = 0;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace baton::bench
