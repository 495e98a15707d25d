#include "router/registry.h"

#include <algorithm>
#include <future>
#include <utility>

#include "transfer/base/log.h"

namespace baton::router {

const char* role_name(Role role) { return role == Role::kPrefill ? "prefill" : "decode"; }

Registry::Registry(const RouterConfig& config, http::EventLoop& loop, http::Client& client,
                   Metrics& metrics)
    : period_(config.health_period),
      deadline_(config.health_deadline),
      failures_(config.health_failures),
      prefiller_grace_(config.prefiller_grace),
      loop_(loop),
      client_(client) {
  add(config.prefillers, Role::kPrefill, metrics);
  add(config.decoders, Role::kDecode, metrics);
  for (const auto& instance : instances_) {
    loop_.post([this, i = instance.get()] { probe_of_period(*i); });
  }
}

Registry::~Registry() = default;

void Registry::add(const std::vector<InstanceConfig>& configs, Role role, Metrics& metrics) {
  for (const InstanceConfig& config : configs) {
    auto instance = std::make_unique<Instance>();
    instance->config = config;
    instance->role = role;
    instance->state.id = static_cast<InstanceId>(instances_.size());
    instance->healthy_gauge =
        &metrics.gauge("baton_router_instance_healthy", "1 where requests are sent to the instance",
                       {{"role", role_name(role)}, {"url", config.url.to_string()}});
    // Believed until a probe or a request says otherwise.
    instance->healthy_gauge->Set(1);
    instances_.push_back(std::move(instance));
  }
}

void Registry::stop() {
  std::promise<void> stopped;
  loop_.post([&] {
    stopping_ = true;
    for (const auto& instance : instances_) {
      instance->timer.reset();
      if (instance->probe) instance->probe->cancel();
      for (const auto& look : std::exchange(instance->looks, {})) look->end();
    }
    stopped.set_value();
  });
  stopped.get_future().wait();
}

std::vector<scheduler::Instance> Registry::snapshot(Role role) const {
  std::vector<scheduler::Instance> out;
  for (const auto& instance : instances_) {
    if (instance->role == role) out.push_back(instance->state);
  }
  return out;
}

bool Registry::any_healthy(Role role) const {
  return std::any_of(instances_.begin(), instances_.end(), [&](const auto& instance) {
    return instance->role == role && instance->state.healthy;
  });
}

void Registry::begin(InstanceId id, uint64_t tokens) {
  scheduler::Instance& state = instances_[id]->state;
  ++state.inflight_requests;
  state.inflight_tokens += tokens;
}

void Registry::end(InstanceId id, uint64_t tokens) {
  scheduler::Instance& state = instances_[id]->state;
  BATON_CHECK(state.inflight_requests > 0 && state.inflight_tokens >= tokens,
              "an instance's load was given back twice");
  --state.inflight_requests;
  state.inflight_tokens -= tokens;
}

void Registry::report_lost(InstanceId id, const std::string& why) {
  set_healthy(*instances_[id], false, why);
}

uint64_t Registry::watch(InstanceId id, std::function<void()> callback) {
  const uint64_t token = next_token_++;
  instances_[id]->watchers.emplace(token, std::move(callback));
  return token;
}

void Registry::unwatch(InstanceId id, uint64_t token) { instances_[id]->watchers.erase(token); }

void Registry::Look::end() {
  grace.reset();
  if (const auto call = std::exchange(done, {})) call();
}

void Registry::look_again(Wanted wanted, std::function<void()> done) {
  if (stopping_) return done();
  const auto look = std::make_shared<Look>();
  look->wanted = wanted;
  look->done = std::move(done);
  if (!any_healthy(Role::kDecode)) {
    for (const auto& instance : instances_) {
      if (instance->role == Role::kDecode) wait_for_probe(*instance, look, look->decoders_left);
      if (!instance->state.healthy) probe(*instance);
    }
  }
  judge(look);
}

void Registry::wait_for_probe(Instance& instance, const std::shared_ptr<Look>& look, size_t& left) {
  probe(instance);
  ++left;
  instance.looks.push_back(look);
}

// Those whose last probe ended before the decoders came up may have come up with them.
void Registry::wait_for_prefillers(const std::shared_ptr<Look>& look) {
  for (const auto& instance : instances_)
    if (instance->role == Role::kPrefill && !instance->seen)
      wait_for_probe(*instance, look, look->prefillers_left);
  look->grace = loop_.after(prefiller_grace_, [weak = std::weak_ptr<Look>(look)] {
    if (const auto look = weak.lock()) look->end();
  });
}

// Whether the look is at its end: at its beginning, and after each probe that it waits for.
void Registry::judge(const std::shared_ptr<Look>& look) {
  if (!look->done) return;
  if (!any_healthy(Role::kDecode)) {
    if (look->decoders_left == 0) look->end();
    return;
  }
  if (look->wanted == Wanted::kDecoder || any_healthy(Role::kPrefill)) return look->end();
  if (!std::exchange(look->decoder_found, true)) wait_for_prefillers(look);
  if (look->prefillers_left == 0) look->end();
}

void Registry::probe_of_period(Instance& instance) {
  instance.periodic = true;
  probe(instance);
}

void Registry::probe(Instance& instance) {
  if (stopping_ || instance.probe) return;
  auto code = std::make_shared<int>(0);
  http::CallHandlers handlers;
  handlers.on_head = [code](const http::ResponseHead& head) { *code = head.status; };
  handlers.on_end = [this, &instance, code](const http::CallEnd& end) {
    instance.probe.reset();
    if (stopping_) return;
    const auto looks = std::exchange(instance.looks, {});
    probed(instance, end.status, *code);
    for (const auto& look : looks) {
      --(instance.role == Role::kDecode ? look->decoders_left : look->prefillers_left);
      judge(look);
    }
  };
  const http::Url& url = instance.config.url;
  instance.probe =
      client_.start(url.address, {"GET", url.prefix + "/health", {}, ""},
                    {.connect_deadline = deadline_, .deadline = deadline_}, std::move(handlers));
}

void Registry::probed(Instance& instance, const Status& status, int code) {
  const bool periodic = std::exchange(instance.periodic, false);
  instance.seen = true;
  if (status.ok() && code == 200) {
    instance.failed_probes = 0;
    set_healthy(instance, true, "it answers /health again");
  } else if (periodic && ++instance.failed_probes >= failures_) {
    set_healthy(instance, false,
                status.ok() ? "/health answers " + std::to_string(code) : status.to_string());
    const auto watchers = std::exchange(instance.watchers, {});
    for (const auto& [token, callback] : watchers) callback();
  }
  if (periodic)
    instance.timer = loop_.after(period_, [this, &instance] { probe_of_period(instance); });
}

void Registry::set_healthy(Instance& instance, bool healthy, const std::string& why) {
  if (instance.state.healthy == healthy) return;
  if (healthy && instance.role == Role::kDecode && !any_healthy(Role::kDecode))
    for (const auto& other : instances_) other->seen = false;
  instance.state.healthy = healthy;
  instance.healthy_gauge->Set(healthy ? 1 : 0);
  log::log(healthy ? log::Level::kInfo : log::Level::kWarn, "instance {} role={} url={} why=\"{}\"",
           healthy ? "healthy" : "unhealthy", role_name(instance.role),
           instance.config.url.to_string(), why);
}

}  // namespace baton::router
