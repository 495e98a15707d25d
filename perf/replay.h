// A workload trace through a host tier: what a node does with a request's chunks, but with slots
// that hold a few bytes each.
#pragma once

#include <cstdint>
#include <optional>

#include "perf/workload_trace.h"
#include "scheduler/eviction_policy.h"
#include "transfer/base/status.h"

namespace baton::bench {

struct Replay {
  uint64_t hits = 0;      // blocks of leading runs that were found
  uint64_t inserted = 0;  // blocks
  uint64_t skipped = 0;   // found no room, because the request itself filled the tier
  uint64_t evictions = 0;
  uint64_t bytes = 0;       // written into slots
  uint64_t held_bytes = 0;  // in the end
};

// Each request looks its blocks up, the leading ones that are there count as hits; the others are
// inserted, and all are let go of from the last to the first. Without `capacity_blocks` there is
// room for all. What is found is compared with what was written: kChecksum where it differs;
// `corrupt`: this many-th hit does (a test seam). kResourceExhausted where the memory is not to be
// had.
Result<Replay> replay(const WorkloadTrace& trace, scheduler::EvictionKind policy,
                      std::optional<uint32_t> capacity_blocks, uint64_t corrupt = 0);

// Blocks of leading runs that would be found if nothing ever left.
uint64_t hits_without_bound(const WorkloadTrace& trace);

}  // namespace baton::bench
