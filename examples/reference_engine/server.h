// The OpenAI API of one engine: /v1/completions, /v1/chat/completions, /v1/models, /health,
// /metrics.
//
// Thread-safe. Requests are read and answered on the event loop's thread and the engine's.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "examples/reference_engine/engine.h"
#include "examples/reference_engine/model.h"
#include "transfer/base/address.h"
#include "transfer/base/metrics.h"
#include "transfer/base/token.h"

namespace baton::http {
class EventLoop;
class Server;
}  // namespace baton::http

namespace baton::reference {

struct ApiConfig {
  HostPort listen{"127.0.0.1", 8000};
  std::string model_name;                       // what clients must call it
  Duration budget = std::chrono::seconds(600);  // of a request that brings none
  std::optional<TransferRole> only_role;        // of handoffs; unset: both
  std::string own_node;                         // "host:port"; empty without a node
  Token token;                                  // that /metrics asks for
};

class ApiServer {
 public:
  // All outlive it. Errors: kInvalidArgument, kUnavailable naming the address.
  static Result<std::unique_ptr<ApiServer>> listen(http::EventLoop& loop, ApiConfig config,
                                                   const Model& model, Engine& engine,
                                                   Metrics& metrics);
  ~ApiServer();
  const HostPort& address() const;
  // Takes no further requests and lets answers that are under way leave, for at most `grace`.
  void stop(Duration grace);

 private:
  class Routes;
  ApiServer();
  std::unique_ptr<Routes> routes_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace baton::reference
