// baton-ctl: asks running nodes, engines and routers how they are, and prints it for people.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "router/ctl_view.h"
#include "router/http/client.h"
#include "transfer/base/cli.h"
#include "transfer/base/env.h"

namespace {

using namespace baton;

constexpr auto kDeadline = std::chrono::seconds(5);

// "host:port" or "http://host:port[/prefix]".
Result<http::Url> parse_target(const std::string& text) {
  return http::Url::parse(text.starts_with("http://") ? text : "http://" + text);
}

// Prints why and returns the exit code.
int fail(const std::string& message) {
  std::fprintf(stderr, "baton-ctl: %s\n", message.c_str());
  return 1;
}

struct Answer {
  int code = 0;  // to exit with, where there is no answer
  http::Response response;
};

// Whether what is asked for needs the token, if there is one; it is sent to nobody else.
enum class Access { kOpen, kToken };

Answer ask(const CommandLine& app, const std::string& target, const std::string& path,
           Access access = Access::kToken) {
  const Result<http::Url> url = parse_target(target);
  if (!url.ok()) return {app.usage_error(url.status().message()), {}};
  http::Headers headers;
  if (access == Access::kToken) {
    const Result<Token> token = env::token();
    if (!token.ok()) return {app.usage_error(token.status().message()), {}};
    if (token->present()) headers.emplace_back("Authorization", token->authorization());
  }
  http::EventLoop loop;
  http::Client client(loop);
  auto response = client.fetch(url->address, {"GET", url->prefix + path, std::move(headers), ""},
                               {.connect_deadline = kDeadline, .deadline = kDeadline});
  if (!response.ok()) return {fail(response.status().to_string()), {}};
  if (response->status == 401) {
    return {fail(target + " asks for its token: set it in BATON_TOKEN or BATON_TOKEN_FILE"), {}};
  }
  return {0, *std::move(response)};
}

int handoffs(const CommandLine& app, const std::string& target) {
  const Answer answer = ask(app, target, "/debug/handoffs");
  if (answer.code != 0) return answer.code;
  const auto parsed = nlohmann::ordered_json::parse(answer.response.body, nullptr, false);
  if (answer.response.status != 200 || parsed.is_discarded()) {
    return fail(target + " answered " + std::to_string(answer.response.status) + ": " +
                answer.response.body.substr(0, 200));
  }
  std::fputs(router::handoffs_view(parsed).c_str(), stdout);
  return 0;
}

int health(const CommandLine& app, const std::string& target) {
  const Answer answer = ask(app, target, "/health", Access::kOpen);
  if (answer.code != 0) return answer.code;
  const bool healthy = answer.response.status == 200;
  const auto parsed = nlohmann::ordered_json::parse(answer.response.body, nullptr, false);
  std::printf("%s %s (%d)\n", target.c_str(), healthy ? "healthy" : "unhealthy",
              answer.response.status);
  if (parsed.is_object()) std::fputs(router::handoffs_view(parsed).c_str(), stdout);
  return healthy ? 0 : 1;
}

int metrics(const CommandLine& app, const std::string& target, const std::string& filter) {
  const Answer answer = ask(app, target, "/metrics");
  if (answer.code != 0) return answer.code;
  if (answer.response.status != 200) {
    return fail(target + " answered " + std::to_string(answer.response.status));
  }
  std::fputs(router::metrics_view(answer.response.body, filter).c_str(), stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine app("Asks running parts of Baton how they are.", "baton-ctl");
  app.require_commands(1, 1);
  std::string target;
  std::string filter = "baton_";
  Command on_handoffs =
      app.add_command("handoffs", "Live handoffs and slots of a node (its HTTP address)");
  on_handoffs.add_option("NODE_HTTP", target, "host:port").required();
  Command on_health = app.add_command(
      "health", "Health of a router, an engine or a node; exit code 0 where it is well");
  on_health.add_option("URL", target, "http://host:port or host:port").required();
  Command on_metrics = app.add_command("metrics", "Metrics of any of them, readable");
  on_metrics.add_option("URL", target, "http://host:port or host:port").required();
  on_metrics.add_option("--filter", filter, "Only names that contain this").shows_default();
  if (const int code = app.parse(argc, argv); code >= 0) return code;
  if (on_handoffs.given()) return handoffs(app, target);
  if (on_health.given()) return health(app, target);
  return metrics(app, target, filter);
}
