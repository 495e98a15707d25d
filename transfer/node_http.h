// A node's HTTP endpoint (cpp-httplib): GET /health, /metrics, /debug/handoffs and
// POST /handoffs/{id}/fail {"attempt": 1, "reason": "…"} (attempt absent: all of the id's).
//
// Where a token is set all but /health need `Authorization: Bearer <token>`, else 401.
//
// Requests run on threads of its own; answers are JSON, errors {"error": {"code", "reason"}}.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "transfer/base/address.h"
#include "transfer/base/ids.h"
#include "transfer/base/status.h"
#include "transfer/base/token.h"

namespace baton {

class NodeHttp {
 public:
  // What the endpoint asks of its node; called from its threads.
  struct Handlers {
    std::function<std::string()> metrics;
    std::function<Result<nlohmann::json>()> debug_handoffs;
    std::function<void(const HandoffId&, uint32_t attempt, const std::string& reason)> fail;
  };
  // Listens and serves at once. Errors: kInternal (bind), naming the address.
  static Result<std::unique_ptr<NodeHttp>> create(const HostPort& listen, Token token,
                                                  Handlers handlers);
  // Stops listening, lets running requests end.
  ~NodeHttp();
  NodeHttp(const NodeHttp&) = delete;
  NodeHttp& operator=(const NodeHttp&) = delete;

  const HostPort& address() const { return address_; }  // bound

 private:
  struct Server;
  NodeHttp(std::unique_ptr<Server> server, HostPort address);
  std::unique_ptr<Server> server_;
  HostPort address_;
};

}  // namespace baton
