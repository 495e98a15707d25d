#include "scheduler/pairing.h"

#include <algorithm>
#include <string>
#include <utility>

namespace baton::scheduler {
namespace {

bool usable(const Instance& instance, std::span<const InstanceId> excluded) {
  return instance.healthy &&
         std::find(excluded.begin(), excluded.end(), instance.id) == excluded.end();
}

std::pair<uint64_t, uint64_t> load(const Instance& instance, Role role) {
  const std::pair<uint64_t, uint64_t> by_tokens{instance.inflight_tokens,
                                                instance.inflight_requests};
  return role == Role::kPrefill ? by_tokens : std::pair{by_tokens.second, by_tokens.first};
}

}  // namespace

Result<PairingPolicy> parse_pairing_policy(std::string_view name) {
  if (name == "round_robin") return PairingPolicy::kRoundRobin;
  if (name == "least_loaded") return PairingPolicy::kLeastLoaded;
  return Status(Code::kInvalidArgument,
                "'" + std::string(name) + "': expected round_robin or least_loaded");
}

std::optional<InstanceId> choose_instance(PairingPolicy policy, Role role,
                                          std::span<const Instance> instances, uint64_t turn,
                                          std::span<const InstanceId> excluded) {
  const auto is_usable = [&](const Instance& i) { return usable(i, excluded); };
  const auto count =
      static_cast<uint64_t>(std::count_if(instances.begin(), instances.end(), is_usable));
  if (count == 0) return std::nullopt;
  const uint64_t first = turn % count;  // among the usable ones
  const Instance* best = nullptr;
  uint64_t best_distance = 0;
  uint64_t position = 0;
  for (const Instance& instance : instances) {
    if (!is_usable(instance)) continue;
    const uint64_t distance = (position++ + count - first) % count;
    const auto key = [&](const Instance& i, uint64_t d) {
      return policy == PairingPolicy::kRoundRobin ? std::pair{std::pair<uint64_t, uint64_t>{}, d}
                                                  : std::pair{load(i, role), d};
    };
    if (best == nullptr || key(instance, distance) < key(*best, best_distance)) {
      best = &instance;
      best_distance = distance;
    }
  }
  return best->id;
}

std::optional<Pair> choose_pair(PairingPolicy policy, std::span<const Instance> prefillers,
                                std::span<const Instance> decoders, uint64_t turn) {
  const auto decoder = choose_instance(policy, Role::kDecode, decoders, turn);
  if (!decoder) return std::nullopt;
  return Pair{choose_instance(policy, Role::kPrefill, prefillers, turn), *decoder};
}

}  // namespace baton::scheduler
