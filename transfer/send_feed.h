// The mailbox between a prefilling engine and the progress thread: what is computed so far.
//
// The engine's thread writes and never waits; the progress thread drains. However often the engine
// reports, at most one wake-up is under way and the mailbox holds one number a layer.
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

class SendFeed {
 public:
  // `wake` posts a drain to the progress thread; called from the engine's thread.
  SendFeed(uint32_t layers, std::function<void()> wake);

  // --- the engine's thread
  void begin(std::span<const uint32_t> blocks, uint32_t cached_tokens);
  void extend(std::span<const uint32_t> blocks);
  void layer_ready(uint32_t layer, uint32_t tokens);
  void finish();
  void abort(std::string why);   // nothing after finish()
  void revoke(std::string why);  // after finish() too, if the blocks are still needed
  HandoffReport report() const;

  // --- the progress thread
  struct Update {
    bool begun = false;
    bool finished = false;
    std::optional<std::string> aborted;
    std::optional<std::string> revoked;
    std::vector<uint32_t> new_blocks;  // since the last drain
    std::vector<uint32_t>
        layer_tokens;    // leading tokens ready, a layer; all of them, not a difference
    Duration compute{};  // begin to the last layer_ready
  };
  Update drain();
  void set_report(HandoffReport report);

 private:
  void wake_once() BATON_EXCLUDES(mutex_);

  const std::function<void()> wake_;
  mutable Mutex mutex_;
  bool woken_ BATON_GUARDED_BY(mutex_) = false;
  Update next_ BATON_GUARDED_BY(mutex_);
  TimePoint begun_at_ BATON_GUARDED_BY(mutex_){};
  HandoffReport report_ BATON_GUARDED_BY(mutex_);
};

}  // namespace baton
