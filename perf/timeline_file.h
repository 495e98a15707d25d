// One handoff as a waterfall for https://ui.perfetto.dev or chrome://tracing: the JSON format of
// Chrome's trace events, both nodes on one clock.
#pragma once

#include <span>
#include <string>

#include "transfer/base/status.h"
#include "transfer/timeline.h"

namespace baton::bench {

// Rows: the sender's compute, gather and send, and the receiver's verify_scatter, one slice a
// segment; send ends where the receiver begins to copy. Errors: kInvalidArgument naming the file.
Status write_timeline_file(const std::string& file, std::span<const TimelineEvent> sender,
                           std::span<const TimelineEvent> receiver);

}  // namespace baton::bench
