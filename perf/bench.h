// baton-bench: one subcommand a question, one file a question.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "perf/progress.h"
#include "perf/result.h"
#include "transfer/base/cli.h"
#include "transfer/base/status.h"

namespace baton::bench {

// What every question is asked with.
struct Common {
  bool json = false;
  uint32_t samples = 0;  // 0: the question's own number
  // Test seam: this many-th (from 1) verified result is wrong, to see that the program says so.
  uint32_t corrupt = 0;

  uint32_t samples_or(uint32_t own) const { return samples != 0 ? samples : own; }
};

// Asked while it measures.
struct Run {
  const Common& common;
  Report& report;
  Progress& progress;
};

// A question adds its subcommand and says how it is answered. kInvalidArgument is the command
// line's fault (exit 2), kChecksum wrong bytes, anything else what went wrong (exit 1).
struct Question {
  Command command;
  std::function<Status(Run&)> answer;
};

Question add_handoff(const Command& app);
Question add_keys(const Command& app);
Question add_kernels(const Command& app);
Question add_latency(const Command& app);
Question add_many(const Command& app);
Question add_pipeline(const Command& app);
Question add_checksum(const Command& app);
Question add_tier(const Command& app);
Question add_trace(const Command& app);

}  // namespace baton::bench
