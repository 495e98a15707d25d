// Logging: to stderr, one line an event, "key=value" after the sentence.
//
// The level comes from BATON_LOG_LEVEL (trace, debug, info, warn, error, off; default info).
// Formats are {fmt}'s and are checked when they are compiled. spdlog writes the lines; it and the
// formatting itself are seen by log.cc alone, since in every file that logs they would be most of
// what there is to compile.
// Thread-safe.
#pragma once

#include <fmt/core.h>

namespace baton {

// Called once at the start of main; `program` stands in every line.
void init_logging(const char* program);

namespace log {

enum class Level { kDebug, kInfo, kWarn, kError, kCritical };

// Whether lines of this level are written.
bool writes(Level level);
// From now on only lines of this level and above are.
void set_level(Level level);
void flush();

void write(Level level, fmt::string_view format, fmt::format_args arguments);

template <typename... Args>
void log(Level level, fmt::format_string<Args...> format, Args&&... arguments) {
  write(level, format, fmt::make_format_args(arguments...));
}
template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... arguments) {
  write(Level::kDebug, format, fmt::make_format_args(arguments...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... arguments) {
  write(Level::kInfo, format, fmt::make_format_args(arguments...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... arguments) {
  write(Level::kWarn, format, fmt::make_format_args(arguments...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... arguments) {
  write(Level::kError, format, fmt::make_format_args(arguments...));
}
template <typename... Args>
void critical(fmt::format_string<Args...> format, Args&&... arguments) {
  write(Level::kCritical, format, fmt::make_format_args(arguments...));
}

}  // namespace log
}  // namespace baton
