// What a session knows of its handoff: for the engine's decisions, answers, logs and metrics.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "transfer/base/clock.h"
#include "transfer/protocol/effects.h"

namespace baton {

struct HandoffReport {
  std::optional<protocol::End> end;  // unset while it lives
  Status why;                        // ok exactly when committed
  std::string transport;             // "local", …; empty before a channel was chosen
  uint64_t bytes = 0;                // payload bytes verified (receiver) or acknowledged (sender)
  // Receiver: leading prompt tokens that are now in the engine's blocks. Sender: of the prompt.
  uint32_t tokens = 0;
  // Receiver: of the prompt's tokens those that the engine or the host tier held at ACCEPT; what
  // the engine holds of a chunk in part crosses nevertheless, with its chunk.
  uint32_t held_tokens = 0;
  // scheduler/share_of_bound.h; an estimate, unset where it cannot be said.
  std::optional<double> share_of_bound;
  Duration first_offer{};  // begin to OFFER
  Duration total{};        // begin to the end
};

// How far a decoder's load is: what DecodeSession::poll() says.
enum class LoadState : uint8_t { kWaiting, kOffered, kLoading, kLoaded, kFailed };

struct LoadProgress {
  LoadState state = LoadState::kWaiting;
  // kOffered: leading tokens that the sender offers (fewer than the prompt has: a FETCH hit in
  // part). kLoaded: leading tokens now in the blocks (all that were offered, or fewer where the
  // handoff ended otherwise).
  uint32_t tokens = 0;
  Status why;  // kFailed
};

}  // namespace baton
