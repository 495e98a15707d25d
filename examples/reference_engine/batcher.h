// What the next step computes: a pure function of a snapshot.
//
// Decoding sequences (one token to go) and prefills (cut into chunks) share a step. The oldest
// comes first; where a sequence needs a further KV block and none is free, the youngest that may
// be preempted gives up all of its own and is computed again later. The oldest can so always go on,
// and nothing waits in a circle.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace baton::reference {

struct BatchEntry {
  uint32_t known = 0;       // tokens that are known: prompt and generated
  uint32_t computed = 0;    // leading tokens whose KV is in place; below `known`
  uint32_t blocks = 0;      // blocks held
  bool preemptible = true;  // false: a transfer still reads or writes its blocks
};

struct BatchLimits {
  uint32_t block_tokens = 16;
  uint32_t free_blocks = 0;
  uint32_t prefill_tokens = 128;  // of all prefills in a step together; at least 1
  uint32_t max_sequences = 16;    // in a step; at least 1
};

struct StepPlan {
  struct Item {
    size_t entry = 0;         // index into the snapshot
    uint32_t tokens = 0;      // to compute now, from `computed` on
    uint32_t new_blocks = 0;  // to allocate first
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;        // in the order of the snapshot
  std::vector<size_t> preempted;  // give up all blocks before anything is allocated
};

// `entries`: all sequences that hold blocks and have something to compute, the oldest first.
StepPlan plan_step(std::span<const BatchEntry> entries, const BatchLimits& limits);

// Whether a sequence that needs `need` blocks may take them now, so that each of the `running`
// sequences could still grow by a block.
bool room_for(uint32_t need, uint32_t free_blocks, uint32_t running);

}  // namespace baton::reference
