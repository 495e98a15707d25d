// What this end of a channel published and the peer has not consumed, with the slots that hold it.
//
// Confined to one thread. Calls nobody: what is to be called is handed out.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "transfer/channel.h"

namespace baton::local {

class Published {
 public:
  explicit Published(uint32_t limit) : limit_(limit) {}

  bool full() const { return entries_.size() >= limit_; }
  size_t size() const { return entries_.size(); }
  // Of staging memory that is held for the peer to read.
  uint64_t staged_bytes() const { return staged_bytes_; }
  // Whether so much more stays within `most`. Two segments always do, so that one can be gathered
  // while the other is scattered.
  bool may_stage(uint64_t bytes, uint64_t most) const {
    return staged_segments_ < 2 || staged_bytes_ + bytes <= most;
  }

  // The sequence to publish it under. `staged_bytes`: 0 where the slot is none of staging memory.
  // Not when full() (CHECK).
  uint64_t add(const HandoffAttempt& handoff, SlotRef slot, uint64_t staged_bytes,
               Channel::PublishDone done);

  // The peer has consumed it: its slot is let go; returns what to call (null where it was
  // forgotten). Errors: kProtocol for what is not outstanding.
  Result<Channel::PublishDone> consumed(uint64_t sequence);

  // Lets go of the slots of this handoff and returns what to call. The peer still owes CONSUMED
  // for each, and until then they count against the limit.
  std::vector<Channel::PublishDone> forget(const HandoffAttempt& handoff) {
    return let_go(&handoff);
  }
  std::vector<Channel::PublishDone> forget_all() { return let_go(nullptr); }

 private:
  struct Entry {
    HandoffAttempt handoff;
    SlotRef slot;
    uint64_t staged_bytes;
    Channel::PublishDone done;
    bool forgotten = false;  // the slot is let go and `done` was handed out
  };
  void let_go(Entry& entry);
  std::vector<Channel::PublishDone> let_go(const HandoffAttempt* handoff);

  const uint32_t limit_;
  uint64_t next_ = 1;
  uint64_t staged_bytes_ = 0;
  uint32_t staged_segments_ = 0;
  std::unordered_map<uint64_t, Entry> entries_;  // by sequence
};

}  // namespace baton::local
