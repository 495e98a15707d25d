// Measuring several ways of doing the same thing in turns, in one run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "perf/progress.h"
#include "transfer/base/status.h"

namespace baton::bench {

// Seconds, in the order in which they were measured.
using Series = std::vector<double>;

// Nearest rank; `share` in (0, 1]. The series has at least one value.
double quantile(Series values, double share);
double median(const Series& values);

// One way: prepares by itself (not timed), does it once, checks what came out, and returns the
// seconds that it took. kChecksum where the bytes are wrong: the program then exits with 1.
struct Way {
  std::string name;
  std::function<Result<double>()> once;
};

// Every way `warm_up` times, then `samples` rounds of each way in turn, each round beginning with
// the next one. A series for each way, in their order.
Result<std::vector<Series>> measure(const std::vector<Way>& ways, uint32_t samples,
                                    Progress& progress, uint32_t warm_up = 1);

// Time in this process, in seconds of CLOCK_MONOTONIC, which all processes of a host share.
double seconds_now();

}  // namespace baton::bench
