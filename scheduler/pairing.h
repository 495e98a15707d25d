// Which prefiller and which decoder serve a request.
//
// Pure functions of a snapshot: no clock, no state, no I/O; safe to call from any thread. O(number
// of instances). The answer to the same question is always the same; what makes round robin go
// round, and idle instances share the work, is the request's `turn`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "transfer/base/status.h"

namespace baton::scheduler {

using InstanceId = uint32_t;

struct Instance {
  InstanceId id = 0;
  bool healthy = true;
  uint32_t inflight_requests = 0;
  uint64_t inflight_tokens = 0;  // of prompts whose request has not ended; an estimate will do
};

enum class PairingPolicy : uint8_t { kRoundRobin, kLeastLoaded };

// "round_robin", "least_loaded". Errors: kInvalidArgument, naming both.
Result<PairingPolicy> parse_pairing_policy(std::string_view name);

enum class Role : uint8_t { kPrefill, kDecode };

// The instance to use, nothing where all are unhealthy or excluded.
//
// Round robin counts `turn` over the usable ones. Least loaded takes the smallest load; a
// prefiller's load is first its prompt tokens (they are what it computes) and a decoder's first its
// requests (they are what its step serves); of equals the first one from `turn` on wins.
std::optional<InstanceId> choose_instance(PairingPolicy policy, Role role,
                                          std::span<const Instance> instances, uint64_t turn,
                                          std::span<const InstanceId> excluded = {});

struct Pair {
  std::optional<InstanceId> prefiller;  // nothing: none is usable, the decoder computes by itself
  InstanceId decoder = 0;
};

// Both at once. Nothing where no decoder is usable.
std::optional<Pair> choose_pair(PairingPolicy policy, std::span<const Instance> prefillers,
                                std::span<const Instance> decoders, uint64_t turn);

}  // namespace baton::scheduler
