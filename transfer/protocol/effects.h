// What a step of a handoff's state machine asks its owner to do, in this order.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "transfer/base/status.h"
#include "transfer/protocol/messages.h"

namespace baton::protocol {

// How a handoff ended on one side.
enum class End : uint8_t { kCommitted = 1, kRefused, kCancelled, kExpired, kFailed };
// "committed", …: as metrics and answers write them.
const char* end_name(End end);
// Why what comes later for an attempt that has ended so is refused.
RefuseReason refusal_after(End end);

struct Effects {
  std::vector<Message> messages;  // to the peer
  // Receiver: the offer stands and the session must accept() or refuse().
  bool offered = false;
  // The handoff ended now; `why` is ok exactly when committed.
  std::optional<End> end;
  Status why;
  // Nothing of this handoff reads or writes the engine's blocks any more. Set once, at or after
  // the end.
  bool quiet = false;
};

}  // namespace baton::protocol
