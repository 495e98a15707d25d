// What baton-router is told on its command line.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "router/http/message.h"
#include "scheduler/pairing.h"
#include "transfer/base/address.h"
#include "transfer/base/clock.h"
#include "transfer/base/token.h"

namespace baton::router {

struct InstanceConfig {
  http::Url url;                      // the engine's OpenAI API
  std::vector<HostPort> node;         // its node's control address, one per rank
  std::optional<HostPort> node_http;  // its node's HTTP, to tell it that a prefiller failed

  // "URL=NODE[@NODE_HTTP]". Errors: kInvalidArgument, naming `text` and what was expected.
  static Result<InstanceConfig> parse(std::string_view text);
};

struct RouterConfig {
  HostPort listen{"127.0.0.1", 8000};
  std::vector<InstanceConfig> prefillers;
  std::vector<InstanceConfig> decoders;
  scheduler::PairingPolicy policy = scheduler::PairingPolicy::kLeastLoaded;

  Duration budget = std::chrono::seconds(30);  // for all of a request, its answer included
  Duration drain = std::chrono::seconds(30);   // for running requests after SIGTERM
  Duration connect_deadline = std::chrono::seconds(1);
  Duration health_period = std::chrono::milliseconds(500);
  Duration health_deadline = std::chrono::seconds(1);
  uint32_t health_failures = 3;  // probes in a row that make an instance unhealthy
  // How long a request that has a decoder waits for the probe of a prefiller that may have come up
  // with it.
  Duration prefiller_grace = std::chrono::milliseconds(250);

  size_t max_body_bytes = 8 << 20;     // of a request
  size_t max_answer_bytes = 64 << 20;  // of an answer that is not streamed
  size_t max_inflight = 1024;          // requests; above it 429
  size_t max_connections = 4096;

  Token token;  // shown to nodes, and asked for by /metrics
};

// The configuration, or the exit code to end with (help: 0; a wrong flag: 2, after one clear line
// on stderr).
std::variant<RouterConfig, int> parse_router_flags(int argc, char** argv);

}  // namespace baton::router
