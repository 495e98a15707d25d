// What other people's programs say of the same path (--external): that the reference of ours is not
// a slow one. Run on this host beside nothing else; they send one buffer of their own, warm.
#pragma once

#include "transfer/base/status.h"

namespace baton::bench {

// Bytes a second. Errors: kNotFound where the program is not installed, kUnavailable with what it
// said, kDeadlineExceeded.
Result<double> iperf3_rate();        // one TCP stream, pieces of 1 MiB (its largest), cubic
Result<double> ucx_perftest_rate();  // ucp_am_bw over tcp, 4 MiB, PEER error mode

}  // namespace baton::bench
