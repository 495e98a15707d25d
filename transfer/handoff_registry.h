// Which attempts of which handoffs live at this node, and which have ended.
//
// An attempt is claimed at most once a role. When it ends it leaves a tombstone for a while: what
// comes later for it is refused with the end's name. Both are bounded.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "transfer/base/clock.h"
#include "transfer/base/ids.h"
#include "transfer/base/mutex.h"
#include "transfer/base/status.h"
#include "transfer/protocol/effects.h"

namespace baton {

// A holder has prefilled for nobody yet (two-step flow): its chunks wait for a FETCH under the same
// id.
enum class HandoffRole : uint8_t { kSender, kReceiver, kHolder };

class HandoffRegistry {
 public:
  HandoffRegistry(size_t max_live, Duration tombstone_ttl, size_t max_tombstones = 1u << 16);

  // Errors: kExists (lives already in this role), kRefused (has ended; names how),
  // kResourceExhausted (max_live), kUnavailable after close().
  Status claim(HandoffRole role, const HandoffAttempt& handoff, TimePoint now);
  // Nothing of the claimed attempt is left here.
  void release(HandoffRole role, const HandoffAttempt& handoff);
  // It has ended (whether claimed or not: an offer that nobody came for ends too): a tombstone.
  void bury(HandoffRole role, const HandoffAttempt& handoff, protocol::End end, TimePoint now);
  std::optional<protocol::End> tombstone(HandoffRole role, const HandoffAttempt& handoff,
                                         TimePoint now) const;
  void close();
  size_t live() const;

 private:
  size_t live_locked() const BATON_REQUIRES(mutex_);
  struct Grave {
    protocol::End end;
    TimePoint until;
  };
  struct PerRole {
    std::unordered_set<HandoffAttempt> live;
    std::unordered_map<HandoffAttempt, Grave> graves;
    std::deque<HandoffAttempt> order;  // of burial, oldest first
  };
  void bury_locked(PerRole& role, const HandoffAttempt& handoff, protocol::End end, TimePoint now)
      BATON_REQUIRES(mutex_);

  const size_t max_live_;
  const Duration ttl_;
  const size_t max_tombstones_;
  mutable Mutex mutex_;
  PerRole roles_[3] BATON_GUARDED_BY(mutex_);
  bool closed_ BATON_GUARDED_BY(mutex_) = false;
};

}  // namespace baton
