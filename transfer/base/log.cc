#include "transfer/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include "transfer/base/env.h"

namespace baton {

void init_logging(const char* program) {
  auto logger = std::make_shared<spdlog::logger>(
      program, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n[%P] %L %v");
  logger->set_level(spdlog::level::from_str(env::log_level()));
  logger->flush_on(spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace baton
