// Every environment variable that Baton reads. Nothing else calls getenv.
//
// | variable           | meaning                                              | default |
// |--------------------|------------------------------------------------------|---------|
// | BATON_LOG_LEVEL    | trace, debug, info, warn, error, off                 | info    |
// | BATON_TEST_MODEL   | tests: a GGUF file of SmolLM2-135M-Instruct           | (skip)  |
// | BATON_TOKEN        | the token that nodes and admin endpoints ask for     | (none)  |
// | BATON_TOKEN_FILE   | a file that holds it, closed to other users          | (none)  |
//
// And of what Amazon's tools read, for the S3 tier: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
// AWS_SESSION_TOKEN, AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE (default ~/.aws/credentials), HOME.
#pragma once

#include <string>

#include "transfer/base/token.h"

namespace baton::env {

std::string log_level();
std::string test_model();

// None where neither variable is set. kInvalidArgument where both are, or what is set is no token;
// a variable that is set to nothing is a mistake too, and no way to be let in.
Result<Token> token();

// As the variables say, empty where one is not set. What it means is transfer/tiers/s3's.
struct Aws {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;
  std::string profile;
  std::string credentials_file;
  std::string home;
};
Aws aws();

}  // namespace baton::env
