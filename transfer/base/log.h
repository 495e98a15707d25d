// Logging: spdlog to stderr, one line an event, "key=value" after the sentence.
//
// The level comes from BATON_LOG_LEVEL (trace, debug, info, warn, error, off; default info).
// Thread-safe.
#pragma once

#include <spdlog/spdlog.h>

namespace baton {

// Called once at the start of main; `program` stands in every line.
void init_logging(const char* program);

namespace log = spdlog;

}  // namespace baton
