#include "perf/reference_ucx.h"

namespace baton::bench {

Result<std::unique_ptr<UcxStream>> UcxStream::create() {
  return Status(Code::kUnavailable, "this build has no UCX to measure against");
}

}  // namespace baton::bench
