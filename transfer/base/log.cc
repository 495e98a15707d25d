#include "transfer/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <memory>
#include <string>

#include "transfer/base/env.h"

namespace baton {

void init_logging(const char* program) {
  auto logger =
      std::make_shared<spdlog::logger>(program, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n[%P] %L %v");
  logger->set_level(spdlog::level::from_str(env::log_level()));
  logger->flush_on(spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
}

namespace log {
namespace {

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kCritical:
      return spdlog::level::critical;
  }
  return spdlog::level::critical;
}

}  // namespace

bool writes(Level level) { return spdlog::should_log(spdlog_level(level)); }

void set_level(Level level) { spdlog::set_level(spdlog_level(level)); }

void flush() { spdlog::default_logger_raw()->flush(); }

void write(Level level, fmt::string_view format, fmt::format_args arguments) {
  if (!writes(level)) return;
  std::string line;
  try {
    line = fmt::vformat(format, arguments);
  } catch (const std::exception& problem) {  // no memory: what was to be said is not worth an end
    return spdlog::error("a line cannot be formatted: {}", problem.what());
  }
  spdlog::log(spdlog_level(level), spdlog::string_view_t(line));
}

}  // namespace log
}  // namespace baton
