// The S3 tier: one object a chunk, in a bucket that many nodes share. README.md says what an object
// is and what is asked of the service.
//
// Thread safety: as tier.h says; all of it on the io_context's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>

#include "transfer/base/metrics.h"
#include "transfer/base/status.h"
#include "transfer/tiers/s3/s3_config.h"
#include "transfer/tiers/tier.h"

namespace baton::s3 {

class S3Tier {
 public:
  // Reads the credentials (credentials.h); asks the service for nothing yet. Both references must
  // outlive the tier. Errors: kInvalidArgument naming what is wrong, kInternal where libcurl cannot
  // be used, or the build has no S3 tier.
  static Result<std::unique_ptr<Tier>> open(boost::asio::io_context& io, S3Config config,
                                            Metrics& metrics);
};

}  // namespace baton::s3
