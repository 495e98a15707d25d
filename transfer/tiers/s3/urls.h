// Where objects and listings are, in either style.
//
// Constant after construction, thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "transfer/tiers/s3/s3_config.h"

namespace baton::s3 {

class Urls {
 public:
  explicit Urls(const S3Config& config);

  std::string object(const std::string& name) const { return bucket_ + name; }
  // One page of the names that begin with `prefix`; `token` is what the page before said, or empty.
  std::string listing(const std::string& prefix, const std::string& token) const;

 private:
  const uint32_t page_objects_;
  std::string bucket_;  // with a slash at its end
};

// As signatures want values: all but A-Z, a-z, 0-9, '-', '_', '.' and '~' as %XX.
std::string percent_encoded(std::string_view text);

}  // namespace baton::s3
