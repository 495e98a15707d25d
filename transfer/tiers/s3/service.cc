#include "transfer/tiers/s3/service.h"

#include <algorithm>

#include "transfer/base/ids.h"
#include "transfer/base/log.h"

namespace baton::s3 {
namespace {

uint32_t background_share(const S3Config& config) {
  const double share = config.store_share * config.connections;
  return std::clamp(static_cast<uint32_t>(share), 1u, config.connections);
}

}  // namespace

Service::Service(boost::asio::io_context& io_context, const S3Config& s3_config,
                 std::unique_ptr<HttpLoop> http_loop, Metrics& registry)
    : io(io_context),
      config(s3_config),
      urls(s3_config),
      metrics(registry),
      http(std::move(http_loop)),
      turns(io_context, s3_config.connections, background_share(s3_config)),
      hedging(s3_config.hedge_share, s3_config.min_hedge),
      breaker_(s3_config.breaker),
      random_(static_cast<std::minstd_rand::result_type>(random_u64())) {}

bool Service::allows() { return breaker_.allows(now()); }

bool Service::available() const {
  return breaker_.state(now()) != scheduler::Breaker::State::kOpen;
}

void Service::worked() {
  breaker_.succeeded();
  trouble_.clear();
  metrics.available.Set(1);
  if (std::exchange(open_, false))
    log::info("s3: the service answers again endpoint={}", config.endpoint);
}

void Service::failed(const std::string& why) {
  const TimePoint time = now();
  trouble_ = why;
  breaker_.failed(time);
  if (breaker_.state(time) != scheduler::Breaker::State::kOpen) return;
  metrics.available.Set(0);
  if (!std::exchange(open_, true)) {
    log::warn("s3: the service is not asked for a while endpoint={} bucket={} error=\"{}\"",
              config.endpoint, config.bucket, why);
  }
}

Duration Service::pause_after(uint32_t tries) {
  Duration pause = config.first_pause;
  for (uint32_t i = 1; i < tries && pause < config.max_pause; ++i) pause *= 2;
  pause = std::min(pause, config.max_pause);
  std::uniform_real_distribution<double> share(0.5, 1);
  return std::chrono::duration_cast<Duration>(pause * share(random_));
}

void Service::not_conditional(const std::string& why) {
  if (!std::exchange(conditional_, false)) return;
  log::warn(
      "s3: the service does not know If-None-Match: what is stored is looked for before "
      "endpoint={} error=\"{}\"",
      config.endpoint, why);
}

}  // namespace baton::s3
