// What other people's programs say of the same path (--external): that the reference of ours is not
// a slow one. Run on this host beside nothing else; they send one buffer of their own, warm.
#pragma once

#include <cstdint>
#include <string>

#include "transfer/base/status.h"

namespace baton::bench {

// Bytes a second. Errors: kNotFound where the program is not installed, kUnavailable with what it
// said, kDeadlineExceeded.
Result<double> iperf3_rate();        // one TCP stream, pieces of 1 MiB (its largest), cubic
Result<double> ucx_perftest_rate();  // ucp_am_bw over tcp, 4 MiB, PEER error mode

// One sequential pass over a file by fio, with io_uring and direct I/O; the file is made where it
// is not there. Seconds, as fio measures them without its start. Errors as above.
struct FioJob {
  enum class Io : uint8_t { kRead, kWrite, kBoth };  // both: half of the bytes each, mixed

  std::string path;
  uint64_t bytes = 0;
  uint64_t piece_bytes = 0;
  uint32_t depth = 1;
  Io io = Io::kRead;
  bool fixed_buffers = false;  // registered with the ring, and so is the file
};
Result<double> fio_seconds(const FioJob& job);

}  // namespace baton::bench
