#include "router/config.h"

#include <cstdint>

#include "transfer/base/cli.h"
#include "transfer/base/env.h"

namespace baton::router {
namespace {

constexpr const char* kInstanceFormat =
    "http://HOST:PORT=NODE_HOST:PORT[,HOST:PORT…][@NODE_HTTP_HOST:PORT]";

Status parse_instances(const std::vector<std::string>& texts, std::vector<InstanceConfig>& out) {
  for (const std::string& text : texts) {
    BATON_ASSIGN_OR_RETURN(InstanceConfig instance, InstanceConfig::parse(text));
    for (const InstanceConfig& other : out) {
      if (other.url == instance.url) {
        return Status(Code::kInvalidArgument, "'" + text + "': " + instance.url.to_string() +
                                                  " is given twice in one role");
      }
    }
    out.push_back(std::move(instance));
  }
  return ok_status();
}

// Flags as they are parsed.
struct Flags {
  std::string listen = "127.0.0.1:8000";
  std::vector<std::string> prefill;
  std::vector<std::string> decode;
  std::string policy = "least_loaded";
  int64_t budget_ms = 30000;
  int64_t drain_ms = 30000;
  int64_t connect_ms = 1000;
  int64_t health_period_ms = 500;
  int64_t health_deadline_ms = 1000;
  bool insecure = false;
};

void add_flags(const Command& app, Flags& flags, RouterConfig& config) {
  constexpr int64_t kDayMs = int64_t{24} * 3600 * 1000;
  constexpr size_t kMaxCount = size_t{1} << 40;
  app.add_option("--listen", flags.listen, "HOST:PORT to serve on; port 0 takes a free one")
      .shows_default();
  app.add_option("--prefill", flags.prefill,
                 std::string("A prefiller (repeatable): ") + kInstanceFormat)
      .repeatable()
      .required();
  app.add_option("--decode", flags.decode, "A decoder (repeatable), the same way")
      .repeatable()
      .required();
  app.add_option("--policy", flags.policy, "round_robin or least_loaded").shows_default();
  app.add_option("--budget-ms", flags.budget_ms, "Time for all of a request, its answer included")
      .range(int64_t{1}, kDayMs)
      .shows_default();
  app.add_option("--drain-ms", flags.drain_ms, "Time for running requests after SIGTERM")
      .range(int64_t{0}, kDayMs)
      .shows_default();
  app.add_option("--connect-ms", flags.connect_ms, "Time to connect to an engine")
      .range(int64_t{1}, kDayMs)
      .shows_default();
  app.add_option("--health-period-ms", flags.health_period_ms, "Between two GET /health")
      .range(int64_t{1}, kDayMs)
      .shows_default();
  app.add_option("--health-deadline-ms", flags.health_deadline_ms, "For one GET /health")
      .range(int64_t{1}, kDayMs)
      .shows_default();
  app.add_option("--health-failures", config.health_failures,
                 "Probes failed in a row that make an instance unhealthy")
      .range(1, 1000)
      .shows_default();
  app.add_option("--max-body", config.max_body_bytes, "Bytes of a request's body; above it 413")
      .range(size_t{1}, kMaxCount)
      .shows_default();
  app.add_option("--max-answer", config.max_answer_bytes,
                 "Bytes of an answer that is not streamed; above it 502")
      .range(size_t{1}, kMaxCount)
      .shows_default();
  app.add_option("--max-inflight", config.max_inflight, "Requests at once; above it 429")
      .range(size_t{1}, kMaxCount)
      .shows_default();
  app.add_flag("--insecure", flags.insecure,
               "Listen beyond loopback although no token is set (BATON_TOKEN, BATON_TOKEN_FILE)");
  app.add_option("--max-connections", config.max_connections, "Clients at once; above it 503")
      .range(size_t{1}, kMaxCount)
      .shows_default();
}

Status apply(const Flags& flags, RouterConfig& config) {
  using std::chrono::milliseconds;
  BATON_ASSIGN_OR_RETURN(config.listen, HostPort::parse(flags.listen));
  BATON_ASSIGN_OR_RETURN(config.token, env::token());
  BATON_RETURN_IF_ERROR(
      check_exposure("--listen", config.listen, config.token.present(), flags.insecure));
  BATON_ASSIGN_OR_RETURN(config.policy, scheduler::parse_pairing_policy(flags.policy));
  BATON_RETURN_IF_ERROR(parse_instances(flags.prefill, config.prefillers));
  BATON_RETURN_IF_ERROR(parse_instances(flags.decode, config.decoders));
  config.budget = milliseconds(flags.budget_ms);
  config.drain = milliseconds(flags.drain_ms);
  config.connect_deadline = milliseconds(flags.connect_ms);
  config.health_period = milliseconds(flags.health_period_ms);
  config.health_deadline = milliseconds(flags.health_deadline_ms);
  return ok_status();
}

}  // namespace

Result<InstanceConfig> InstanceConfig::parse(std::string_view text) {
  const auto wrong = [&](const std::string& why) {
    return Status(Code::kInvalidArgument,
                  "'" + std::string(text) + "': expected " + kInstanceFormat + ": " + why);
  };
  const size_t equals = text.find('=');
  if (equals == text.npos) return wrong("there is no '='");
  InstanceConfig instance;
  Result<http::Url> url = http::Url::parse(text.substr(0, equals));
  if (!url.ok()) return wrong(url.status().message());
  instance.url = *url;
  std::string_view node = text.substr(equals + 1);
  if (const size_t at = node.find('@'); at != node.npos) {
    Result<HostPort> node_http = HostPort::parse(node.substr(at + 1));
    if (!node_http.ok()) return wrong(node_http.status().message());
    instance.node_http = *node_http;
    node = node.substr(0, at);
  }
  Result<std::vector<HostPort>> addresses = parse_node_address(node);
  if (!addresses.ok()) return wrong(addresses.status().message());
  instance.node = *addresses;
  return instance;
}

std::variant<RouterConfig, int> parse_router_flags(int argc, char** argv) {
  CommandLine app("Pairs prefillers with decoders and serves the OpenAI API in front of them.",
                  "baton-router");
  Flags flags;
  RouterConfig config;
  add_flags(app, flags, config);
  if (const int code = app.parse(argc, argv); code >= 0) return code;
  if (const Status status = apply(flags, config); !status.ok()) {
    return app.usage_error(status.message());
  }
  return config;
}

}  // namespace baton::router
