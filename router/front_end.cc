#include "router/front_end.h"

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>

#include "transfer/base/log.h"

namespace baton::router {
namespace {

constexpr auto kModelsDeadline = std::chrono::seconds(5);
constexpr size_t kMaxModelsBytes = 1 << 20;

// The method a path is served with; empty for one that is not served.
std::string_view method_of(std::string_view path) {
  if (path == "/v1/completions" || path == "/v1/chat/completions") return "POST";
  if (path == "/v1/models" || path == "/health" || path == "/metrics") return "GET";
  return {};
}

}  // namespace

FrontEnd::FrontEnd(const RouterConfig& config, http::EventLoop& loop, http::Client& client,
                   Registry& registry, Metrics& metrics)
    : config_(config),
      registry_(registry),
      all_metrics_(metrics),
      metrics_(metrics),
      context_{config, loop, client, registry, metrics_} {}

void FrontEnd::handle(std::shared_ptr<http::Exchange> exchange) {
  const std::string& method = exchange->request().method;
  const std::string_view path = exchange->request().path();
  const std::string_view expected = method_of(path);
  if (expected.empty()) {
    // Not by its path: anybody could fill the metrics with names.
    metrics_.count_request("other", 404);
    return exchange->respond_error({404, "there is no " + std::string(path), "", "unknown_url"});
  }
  if (method != expected && !(expected == "GET" && method == "HEAD")) {
    metrics_.count_request(std::string(path), 405);
    return exchange->respond_error(
        {405, method + " is not served here, only " + std::string(expected), "",
         "method_not_allowed"},
        {{"Allow", std::string(expected)}});
  }
  if (expected == "POST") return complete(std::move(exchange));
  if (path == "/health") return health(*exchange);
  if (path == "/metrics") {
    const auto& headers = exchange->request().headers;
    if (!config_.token.admits(http::find_header(headers, "Authorization"))) {
      return exchange->respond_error(
          {401, "the router asks for its token: Authorization: Bearer <token>", "",
           "invalid_api_key"},
          {{"WWW-Authenticate", "Bearer"}});
    }
    return exchange->respond(200, {{"Content-Type", "text/plain; version=0.0.4"}},
                             all_metrics_.text());
  }
  models(std::move(exchange));
}

void FrontEnd::complete(std::shared_ptr<http::Exchange> exchange) {
  const auto refuse_counted = [&](const ApiError& error) {
    metrics_.count_request(std::string(exchange->request().path()), error.status);
    log::info("request refused route={} code={} error=\"{}\"", exchange->request().path(),
              error.status, error.message);
    exchange->respond_error(error);
  };
  if (draining_) return refuse_counted({503, "the router is shutting down", "", "draining"});
  if (running_.size() >= config_.max_inflight) {
    return refuse_counted({429, "too many requests are being served", "", "router_full"});
  }
  CompletionRequest request;
  if (const auto error = CompletionRequest::parse(exchange->request().body, request)) {
    return refuse_counted(*error);
  }
  // The callback cannot run before start(), by which time the map holds the dispatch.
  auto key = std::make_shared<Dispatch*>(nullptr);
  const auto dispatch = std::make_shared<Dispatch>(
      context_, std::move(exchange), std::move(request), [this, key] { ended(*key); });
  *key = dispatch.get();
  running_.emplace(dispatch.get(), dispatch);
  metrics_.in_flight.Increment();
  {
    MutexLock lock(mutex_);
    ++in_flight_;
  }
  dispatch->start(turn_++);
}

void FrontEnd::ended(Dispatch* dispatch) {
  metrics_.in_flight.Decrement();
  running_.erase(dispatch);
  MutexLock lock(mutex_);
  --in_flight_;
  changed_.notify_all();
}

void FrontEnd::health(http::Exchange& exchange) const {
  const auto healthy = [&](Role role) {
    const auto all = registry_.snapshot(role);
    return nlohmann::json{
        {"healthy", std::count_if(all.begin(), all.end(), [](auto& i) { return i.healthy; })},
        {"total", all.size()}};
  };
  nlohmann::json body = {{"status", "ok"},
                         {"prefillers", healthy(Role::kPrefill)},
                         {"decoders", healthy(Role::kDecode)},
                         {"in_flight", running_.size()}};
  if (draining_) {
    body["status"] = "draining";
  } else if (!registry_.any_healthy(Role::kDecode)) {
    body["status"] = "unavailable";
    body["why"] = "no decoder is available";
  } else if (body["prefillers"]["total"] > 0 && !registry_.any_healthy(Role::kPrefill)) {
    body["status"] = "degraded";
    body["why"] = "no prefiller is available: decoders compute prompts by themselves";
  }
  const bool serves = body["status"] == "ok" || body["status"] == "degraded";
  exchange.respond(serves ? 200 : 503, {{"Content-Type", "application/json"}}, body.dump());
}

void FrontEnd::models(std::shared_ptr<http::Exchange> exchange) {
  registry_.look_again(Registry::Wanted::kDecoder,
                       [this, exchange] { ask_for_models(exchange, {}); });
}

void FrontEnd::ask_for_models(std::shared_ptr<http::Exchange> exchange,
                              std::vector<InstanceId> failed) {
  const auto decoder = scheduler::choose_instance(config_.policy, Role::kDecode,
                                                  registry_.snapshot(Role::kDecode), turn_, failed);
  if (!decoder) return exchange->respond_error({503, "no decoder is available", "", "no_decoder"});
  const http::Url& url = registry_.config(*decoder).url;
  const auto answer = std::make_shared<http::Response>();
  failed.push_back(*decoder);
  http::CallHandlers handlers;
  handlers.on_head = [answer](const http::ResponseHead& head) {
    answer->status = head.status;
    answer->headers = end_to_end(head.headers);
  };
  handlers.on_body = [answer](std::string_view piece) {
    if (answer->body.size() < kMaxModelsBytes) answer->body += piece;
  };
  handlers.on_end = [this, exchange, answer, failed](const http::CallEnd& end) {
    if (end.status.code() == Code::kCancelled) return;
    if (!end.status.ok() || answer->status >= 500) return ask_for_models(exchange, failed);
    exchange->respond(answer->status, answer->headers, std::move(answer->body));
  };
  http::Request request{"GET", url.prefix + exchange->request().target,
                        end_to_end(exchange->request().headers), ""};
  context_.client.start(url.address, std::move(request),
                        {.connect_deadline = config_.connect_deadline, .deadline = kModelsDeadline},
                        std::move(handlers));
}

void FrontEnd::drain(Duration grace) {
  const auto on_loop = [&](const std::function<void()>& function) {
    std::promise<void> done;
    context_.loop.post([&] {
      function();
      done.set_value();
    });
    done.get_future().wait();
  };
  on_loop([&] { draining_ = true; });
  const TimePoint deadline = now() + grace;
  {
    MutexLock lock(mutex_);
    while (in_flight_ > 0 && changed_.wait_until(mutex_, deadline)) {
    }
  }
  on_loop([&] {
    const auto left = running_;
    if (!left.empty()) log::warn("cutting requests that outlived the drain count={}", left.size());
    for (const auto& [key, dispatch] : left) {
      dispatch->cut({503, "the router is shutting down", "", "draining"});
    }
  });
}

}  // namespace baton::router
