#include "transfer/node_http.h"

#include <httplib.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "transfer/base/clock.h"
#include "transfer/base/utf8.h"

namespace baton {
namespace {

using nlohmann::json;

constexpr size_t kMaxBodyBytes = 64u << 10;
constexpr size_t kThreads = 4;
constexpr size_t kMaxReasonBytes = 1024;

void answer(httplib::Response& response, int status, const json& body) {
  response.status = status;
  // Names and reasons come from peers and need not be UTF-8.
  response.set_content(body.dump(-1, ' ', false, json::error_handler_t::replace),
                       "application/json");
}

void refuse(httplib::Response& response, int status, const char* code, const std::string& reason) {
  answer(response, status, {{"error", {{"code", code}, {"reason", reason}}}});
}

void fail_handoff(const NodeHttp::Handlers& handlers, const httplib::Request& request,
                  httplib::Response& response) {
  const Result<HandoffId> id = HandoffId::parse(request.matches[1].str());
  if (!id.ok()) return refuse(response, 400, "invalid_argument", id.status().message());
  uint32_t attempt = 0;
  std::string reason = "no reason was given";
  if (!request.body.empty()) {
    const json body = json::parse(request.body, nullptr, false);
    if (!body.is_object())
      return refuse(response, 400, "invalid_argument", "the body is no JSON object");
    if (const auto it = body.find("attempt"); it != body.end()) {
      if (!it->is_number_unsigned() || it->get<uint64_t>() == 0 || it->get<uint64_t>() > UINT32_MAX)
        return refuse(response, 400, "invalid_argument",
                      "attempt is " + it->dump() + ": expected a whole number from 1");
      attempt = it->get<uint32_t>();
    }
    if (const auto it = body.find("reason"); it != body.end() && it->is_string())
      reason = cut_utf8(it->get_ref<const std::string&>(), kMaxReasonBytes);
  }
  handlers.fail(*id, attempt, reason);
  answer(response, 200, {{"status", "ok"}});
}

}  // namespace

struct NodeHttp::Server {
  httplib::Server http;
  std::thread thread;
};

NodeHttp::NodeHttp(std::unique_ptr<Server> server, HostPort address)
    : server_(std::move(server)), address_(std::move(address)) {}

NodeHttp::~NodeHttp() {
  server_->http.stop();
  server_->thread.join();
}

Result<std::unique_ptr<NodeHttp>> NodeHttp::create(const HostPort& listen, Token token,
                                                   Handlers handlers) {
  auto server = std::make_unique<Server>();
  httplib::Server& http = server->http;
  http.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  http.set_payload_max_length(kMaxBodyBytes);
  http.set_tcp_nodelay(true);
  // An idle connection must not hold a thread from whoever brings news.
  http.set_keep_alive_max_count(1);
  http.set_read_timeout(2);
  // Before the routes, so that a stranger does not learn which there are.
  http.set_pre_routing_handler(
      [token = std::move(token)](const httplib::Request& request, httplib::Response& response) {
        using Next = httplib::Server::HandlerResponse;
        const bool one = request.get_header_value_count("Authorization") <= 1;
        if (request.path == "/health" ||
            (one && token.admits(request.get_header_value("Authorization")))) {
          return Next::Unhandled;
        }
        response.set_header("WWW-Authenticate", "Bearer");
        refuse(response, 401, "unauthenticated",
               "this node asks for its token: Authorization: Bearer <token>");
        return Next::Handled;
      });
  http.Get("/health", [](const httplib::Request&, httplib::Response& response) {
    answer(response, 200, {{"status", "ok"}});
  });
  http.Get("/metrics", [handlers](const httplib::Request&, httplib::Response& response) {
    response.set_content(handlers.metrics(), "text/plain; version=0.0.4");
  });
  http.Get("/debug/handoffs", [handlers](const httplib::Request&, httplib::Response& response) {
    Result<json> view = handlers.debug_handoffs();
    if (!view.ok())
      return refuse(response, 503, code_name(view.status().code()), view.status().message());
    answer(response, 200, *view);
  });
  http.Post(R"(/handoffs/([^/]+)/fail)",
            [handlers](const httplib::Request& request, httplib::Response& response) {
              fail_handoff(handlers, request, response);
            });
  http.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (response.body.empty())
      refuse(response, response.status, response.status == 404 ? "not_found" : "invalid_argument",
             request.method + " " + request.path.substr(0, 256) + " is nothing this node answers");
  });
  HostPort bound = listen;
  if (listen.port == 0) {
    const int port = http.bind_to_any_port(listen.host.c_str());
    if (port <= 0)
      return Status(Code::kInternal, "cannot listen on " + listen.to_string() + " for HTTP");
    bound.port = static_cast<uint16_t>(port);
  } else if (!http.bind_to_port(listen.host.c_str(), listen.port)) {
    return Status(Code::kInternal, "cannot listen on " + listen.to_string() + " for HTTP");
  }
  server->thread = std::thread([&http] { http.listen_after_bind(); });
  // stop() before listen_after_bind() has begun would be lost.
  const TimePoint deadline = now() + std::chrono::seconds(5);
  while (!http.is_running() && now() < deadline) std::this_thread::yield();
  return std::unique_ptr<NodeHttp>(new NodeHttp(std::move(server), std::move(bound)));
}

}  // namespace baton
