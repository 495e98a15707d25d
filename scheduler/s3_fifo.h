// S3-FIFO: what is new waits in a small queue, and only what is used again there, or comes back
// soon after it left, gets into the main one.
//
//   new ──> small ──used──> main ──not used──> leaves
//             │               ^ └──used──┐ again to the back, with one use less
//             └─not used─> leaves, its key remembered ──comes back──> main
//
// After Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP
// 2023. Two things are not the paper's, because a chunk is used at most once by a request and the
// next request of a conversation takes minutes to come: one use, not two, gets a chunk out of the
// small queue, and three times as many keys are remembered as chunks are kept. And tails wait in a
// queue of their own, which is the first to be emptied.
//
// Thread safety: externally synchronised.
#pragma once

#include "scheduler/eviction_policy.h"
#include "scheduler/ghost_keys.h"

namespace baton::scheduler {

class S3Fifo final : public EvictionPolicy {
 public:
  static constexpr size_t kSmallPercent = 10;  // of what is kept
  static constexpr size_t kTailPercent = 1;
  static constexpr uint8_t kMostUses = 3;          // counted
  static constexpr size_t kRememberedPerKept = 3;  // keys

  S3Fifo() : EvictionPolicy(3) {}
  size_t remembered() const override { return ghosts_.size(); }

 private:
  enum Queue : uint8_t { kSmall, kMain, kTails };

  void enqueue(Item item, Queue queue);

  void inserted(Item item) override;
  void used(Item item) override;
  void released(Item item) override;
  Item candidate() override;
  void leaves(Item item) override;

  GhostKeys ghosts_;
};

}  // namespace baton::scheduler
