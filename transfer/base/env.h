// Every environment variable that Baton reads. Nothing else calls getenv.
//
// | variable           | meaning                                              | default |
// |--------------------|------------------------------------------------------|---------|
// | BATON_LOG_LEVEL    | trace, debug, info, warn, error, off                 | info    |
// | BATON_TEST_MODEL   | tests: a GGUF file of SmolLM2-135M-Instruct           | (skip)  |
#pragma once

#include <string>

namespace baton::env {

std::string log_level();
std::string test_model();

}  // namespace baton::env
