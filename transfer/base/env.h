// Every environment variable that Baton reads. Nothing else calls getenv.
//
// | variable           | meaning                                              | default |
// |--------------------|------------------------------------------------------|---------|
// | BATON_LOG_LEVEL    | trace, debug, info, warn, error, off                 | info    |
// | BATON_TEST_MODEL   | tests: a GGUF file of SmolLM2-135M-Instruct           | (skip)  |
// | BATON_TOKEN        | the token that nodes and admin endpoints ask for     | (none)  |
// | BATON_TOKEN_FILE   | a file that holds it, closed to other users          | (none)  |
#pragma once

#include <string>

#include "transfer/base/token.h"

namespace baton::env {

std::string log_level();
std::string test_model();

// None where neither variable is set. kInvalidArgument where both are, or what is set is no token;
// a variable that is set to nothing is a mistake too, and no way to be let in.
Result<Token> token();

}  // namespace baton::env
