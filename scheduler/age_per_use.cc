#include "scheduler/age_per_use.h"

#include <algorithm>

namespace baton::scheduler {

void AgePerUse::enqueue(Item item) {
  State& s = state(item);
  s.list = s.tail && s.uses == 1 ? kTails : s.uses;
  s.used_at = uses_;
  lists().move_to_back(s.list, item);
}

void AgePerUse::inserted(Item item) {
  State& s = state(item);
  ++uses_;
  s.uses = std::min<uint8_t>(ghosts_.recall(s.key).value_or(0) + 1, kMostUses);
  enqueue(item);
}

void AgePerUse::used(Item item) {
  State& s = state(item);
  ++uses_;
  s.uses = std::min<uint8_t>(s.uses + 1, kMostUses);
  enqueue(item);
}

void AgePerUse::released(Item item) { enqueue(item); }

Item AgePerUse::candidate() {
  constexpr uint64_t kWhole = 12;  // so that ages stay whole numbers: what 1 to 4 divide
  static_assert(kMostUses == 4);
  Item oldest = kNoItem;
  uint64_t most = 0;
  for (uint8_t list = 0; list <= kMostUses; ++list) {
    const Item item = lists().front(list);
    if (item == kNoItem) continue;
    uint64_t age = (uses_ - state(item).used_at) * kWhole;
    age = list == kTails ? age * kTailAges : age / list;
    if (oldest != kNoItem && age <= most) continue;
    oldest = item;
    most = age;
  }
  return oldest;
}

void AgePerUse::leaves(Item item) {
  const State& s = state(item);
  if (s.list != kTails) ghosts_.remember(s.key, s.uses, size() + 1);
}

}  // namespace baton::scheduler
