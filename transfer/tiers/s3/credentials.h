// Who signs the requests: from the environment, or from a profile of the credentials file that
// Amazon's tools share.
//
// No function prints a secret, and errors never quote one. Plain values, externally synchronised.
#pragma once

#include <string>
#include <string_view>

#include "transfer/base/env.h"
#include "transfer/base/status.h"

namespace baton::s3 {

struct Credentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;  // empty: none
};

// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN where the first two are set and no
// profile is asked for; else the profile: `profile`, or AWS_PROFILE, or "default", of
// AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials. kInvalidArgument naming the variable, or the
// file and the profile, and what is missing there.
Result<Credentials> load_credentials(const std::string& profile, const env::Aws& environment);

// The profile out of such a file's text; `path` is for the errors.
Result<Credentials> parse_credentials(std::string_view text, const std::string& profile,
                                      const std::string& path);

}  // namespace baton::s3
