#include "transfer/base/env.h"

#include <cstdlib>

namespace baton::env {
namespace {

std::string get(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : value;
}

}  // namespace

std::string log_level() { return get("BATON_LOG_LEVEL", "info"); }
std::string test_model() { return get("BATON_TEST_MODEL", ""); }

Result<Token> token() {
  const char* value = std::getenv("BATON_TOKEN");
  const char* file = std::getenv("BATON_TOKEN_FILE");
  if (value != nullptr && file != nullptr) {
    return Status(Code::kInvalidArgument,
                  "BATON_TOKEN and BATON_TOKEN_FILE are both set: expected one of them");
  }
  if (value != nullptr) return Token::create(value, "BATON_TOKEN");
  if (file == nullptr) return Token();
  if (*file == '\0')
    return Status(Code::kInvalidArgument, "BATON_TOKEN_FILE is empty: expected a path");
  return Token::read_file(file);
}

Aws aws() {
  return {.access_key_id = get("AWS_ACCESS_KEY_ID", ""),
          .secret_access_key = get("AWS_SECRET_ACCESS_KEY", ""),
          .session_token = get("AWS_SESSION_TOKEN", ""),
          .profile = get("AWS_PROFILE", ""),
          .credentials_file = get("AWS_SHARED_CREDENTIALS_FILE", ""),
          .home = get("HOME", "")};
}

}  // namespace baton::env
