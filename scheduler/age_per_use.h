// Least recently used, but what was used several times may be as many times as old: the one leaves
// whose age, divided by the number of its uses (four at most), is the greatest.
//
// A chunk of a system prompt or of a long conversation so outlives one that was used once, and
// where the tier is large it is lru with little difference: no queue's size has to be right. Those
// that left last are remembered with their uses, which go on being counted when they come back. A
// tail's age counts twenty times.
//
// For each number of uses there is a list in order of use, so that there are five to choose from.
//
// Thread safety: externally synchronised.
#pragma once

#include "scheduler/eviction_policy.h"
#include "scheduler/ghost_keys.h"

namespace baton::scheduler {

class AgePerUse final : public EvictionPolicy {
 public:
  static constexpr uint8_t kMostUses = 4;  // counted
  static constexpr uint64_t kTailAges = 20;

  AgePerUse() : EvictionPolicy(kMostUses + 1) {}
  size_t remembered() const override { return ghosts_.size(); }

 private:
  static constexpr uint8_t kTails = 0;  // lists 1 to kMostUses: of so many uses

  void enqueue(Item item);
  void inserted(Item item) override;
  void used(Item item) override;
  void released(Item item) override;
  Item candidate() override;
  void leaves(Item item) override;

  GhostKeys ghosts_;
  uint64_t uses_ = 0;  // of all items, ever: the time
};

}  // namespace baton::scheduler
