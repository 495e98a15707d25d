// Every environment variable that Baton reads. Nothing else calls getenv.
//
// | variable           | meaning                                              | default |
// |--------------------|------------------------------------------------------|---------|
// | BATON_LOG_LEVEL    | trace, debug, info, warn, error, off                 | info    |
#pragma once

#include <string>

namespace baton::env {

std::string log_level();

}  // namespace baton::env
