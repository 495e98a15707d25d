#include "perf/tier.h"

namespace baton::bench {

Status measure_s3(Run&, const TierOptions&) {
  return Status(Code::kInvalidArgument, "--tier s3: this build has no S3 tier");
}

}  // namespace baton::bench
