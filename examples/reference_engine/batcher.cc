#include "examples/reference_engine/batcher.h"

#include <algorithm>

namespace baton::reference {
namespace {

// The youngest sequence behind `entry` that may give up blocks.
std::optional<size_t> find_victim(std::span<const BatchEntry> entries,
                                  const std::vector<bool>& gone, size_t entry) {
  for (size_t i = entries.size(); i-- > entry + 1;)
    if (!gone[i] && entries[i].preemptible && entries[i].blocks > 0) return i;
  return std::nullopt;
}

}  // namespace

StepPlan plan_step(std::span<const BatchEntry> entries, const BatchLimits& limits) {
  StepPlan plan;
  std::vector<bool> gone(entries.size(), false);
  uint64_t free_blocks = limits.free_blocks;
  uint32_t prefill_left = limits.prefill_tokens;
  for (size_t i = 0; i < entries.size() && plan.items.size() < limits.max_sequences; ++i) {
    const BatchEntry& entry = entries[i];
    if (gone[i]) continue;
    const uint32_t left = entry.known - entry.computed;
    const bool prefill = left > 1;
    const uint32_t tokens = prefill ? std::min(left, prefill_left) : left;
    if (tokens == 0) continue;
    const uint32_t needed =
        (entry.computed + tokens + limits.block_tokens - 1) / limits.block_tokens;
    const uint32_t more = needed > entry.blocks ? needed - entry.blocks : 0;
    while (free_blocks < more) {
      const std::optional<size_t> victim = find_victim(entries, gone, i);
      if (!victim) break;
      gone[*victim] = true;
      plan.preempted.push_back(*victim);
      free_blocks += entries[*victim].blocks;
    }
    if (free_blocks < more) continue;  // waits for what transfers hold
    free_blocks -= more;
    if (prefill) prefill_left -= tokens;
    plan.items.push_back({i, tokens, more});
  }
  return plan;
}

bool room_for(uint32_t need, uint32_t free_blocks, uint32_t running) {
  return uint64_t{need} + running <= free_blocks;
}

}  // namespace baton::reference
