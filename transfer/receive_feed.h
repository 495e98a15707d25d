// The mailbox between a decoding engine and the progress thread: what may be loaded where, and how
// far it is.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/base/mutex.h"
#include "transfer/handoff_report.h"

namespace baton {

class ReceiveFeed {
 public:
  ReceiveFeed(uint32_t layers, std::function<void()> wake, std::function<void()> on_change);

  // --- the engine's thread
  void accept(std::span<const uint32_t> blocks, uint32_t held_tokens);
  void refuse(std::string why);
  void abort(std::string why);
  LoadProgress view() const;
  HandoffReport report() const;
  // Any thread but the progress thread.
  Status wait_layer(uint32_t layer, TimePoint deadline) const;

  // --- the progress thread
  struct Update {
    bool accepted = false;
    std::vector<uint32_t> blocks;
    uint32_t held_tokens = 0;
    std::optional<std::string> refused;
    std::optional<std::string> aborted;
  };
  Update drain();
  void set_state(LoadState state, uint32_t tokens, Status why, HandoffReport report);
  void layer_complete(uint32_t layer);

 private:
  void wake_once() BATON_EXCLUDES(mutex_);

  const std::function<void()> wake_;
  const std::function<void()> on_change_;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  bool woken_ BATON_GUARDED_BY(mutex_) = false;
  Update next_ BATON_GUARDED_BY(mutex_);
  LoadProgress view_ BATON_GUARDED_BY(mutex_);
  HandoffReport report_ BATON_GUARDED_BY(mutex_);
  std::vector<bool> layers_ BATON_GUARDED_BY(mutex_);
};

}  // namespace baton
