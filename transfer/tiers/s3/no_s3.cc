#include "transfer/tiers/s3/s3_tier.h"

namespace baton::s3 {

Result<std::unique_ptr<Tier>> S3Tier::open(boost::asio::io_context&, S3Config, Metrics&) {
  return Status(Code::kInvalidArgument,
                "s3: this build has no S3 tier: it needs libcurl 7.84 and pugixml "
                "(libcurl4-openssl-dev, libpugixml-dev)");
}

}  // namespace baton::s3
