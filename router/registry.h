// The instances a router knows: their health and their load.
//
// Health is found actively (GET /health every period; `health_failures` failed probes in a row make
// an instance unhealthy, one that succeeds makes it healthy) and passively (a request that could
// not connect or lost its connection makes it unhealthy at once). Who would refuse a request for
// want of a healthy instance has them probed once more, because one that has just started is not
// seen until the period is over. Prefillers and decoders mostly come up together: a prefiller whose
// probe has not ended since the decoders came up is waited for, briefly, before a request is
// computed by a decoder alone. Confined to the loop's thread, but for the constructor and stop().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "router/config.h"
#include "router/http/client.h"
#include "scheduler/pairing.h"
#include "transfer/base/metrics.h"

namespace baton::router {

using scheduler::InstanceId;
using scheduler::Role;

// "prefill", "decode"
const char* role_name(Role role);

class Registry {
 public:
  // Begins to probe. Loop, client and metrics must outlive it.
  Registry(const RouterConfig& config, http::EventLoop& loop, http::Client& client,
           Metrics& metrics);
  // stop() has been called, and no call of the client runs any more.
  ~Registry();
  // Ends the probing, and with it what waits in look_again(). Not on the loop's thread. Again: does
  // nothing.
  void stop();

  const InstanceConfig& config(InstanceId id) const { return instances_[id]->config; }
  // As scheduler/ wants them.
  std::vector<scheduler::Instance> snapshot(Role role) const;
  bool any_healthy(Role role) const;

  // A request uses an instance from begin() to end(), with the same `tokens`.
  void begin(InstanceId id, uint64_t tokens);
  void end(InstanceId id, uint64_t tokens);

  // A request could not connect, or lost its connection: avoid it until a probe succeeds.
  void report_lost(InstanceId id, const std::string& why);

  // Calls `done` once, when there is what is wanted or nothing to wait for; at the latest at stop()
  // (at once after it). Where no decoder is healthy every unhealthy instance is probed now, and a
  // decoder is waited for: until the first answers, or every decoder's probe has failed or is past
  // its deadline. Who wants a pair then waits for the prefillers too, where none is healthy: for a
  // probe of each that has had none to its end since the decoders came up, and for at most
  // `prefiller_grace`. However many ask, one probe of an instance runs at a time. What fails of
  // these probes counts towards nothing: it is unhealthy already.
  enum class Wanted { kDecoder, kPair };
  void look_again(Wanted wanted, std::function<void()> done);

  // Calls `callback` once, when `health_failures` probes in a row have failed (a lost connection of
  // another request is no reason), unless the returned token has been given to unwatch() before.
  // The callback may watch again.
  uint64_t watch(InstanceId id, std::function<void()> callback);
  void unwatch(InstanceId id, uint64_t token);

 private:
  // One look_again().
  struct Look {
    Wanted wanted{};
    size_t decoders_left = 0;    // probes that it waits for, until a decoder is there; then …
    size_t prefillers_left = 0;  // … these, until the grace is over
    bool decoder_found = false;
    http::Timer grace;
    std::function<void()> done;  // empty: it has ended
    void end();
  };
  struct Instance {
    InstanceConfig config;
    Role role{};
    scheduler::Instance state;
    uint32_t failed_probes = 0;
    bool seen = false;  // of a prefiller: a probe has ended since the decoders came up
    std::map<uint64_t, std::function<void()>> watchers;
    prometheus::Gauge* healthy_gauge = nullptr;
    http::Timer timer;
    std::shared_ptr<http::Call> probe;         // while it runs
    bool periodic = false;                     // the probe that runs is the period's
    std::vector<std::shared_ptr<Look>> looks;  // wait for the probe that runs
  };

  void add(const std::vector<InstanceConfig>& configs, Role role, Metrics& metrics);
  void wait_for_probe(Instance& instance, const std::shared_ptr<Look>& look, size_t& left);
  void wait_for_prefillers(const std::shared_ptr<Look>& look);
  void judge(const std::shared_ptr<Look>& look);
  void probe(Instance& instance);
  void probe_of_period(Instance& instance);
  void probed(Instance& instance, const Status& status, int code);
  void set_healthy(Instance& instance, bool healthy, const std::string& why);

  const Duration period_;
  const Duration deadline_;
  const uint32_t failures_;
  const Duration prefiller_grace_;
  http::EventLoop& loop_;
  http::Client& client_;
  std::vector<std::unique_ptr<Instance>> instances_;  // by id; constant after construction
  uint64_t next_token_ = 1;
  bool stopping_ = false;
};

}  // namespace baton::router
