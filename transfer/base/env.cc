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

}  // namespace baton::env
