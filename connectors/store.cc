// baton-store: a node without an engine, which keeps chunks for the engines of a host or near it.
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "connectors/node_options.h"
#include "transfer/base/env.h"
#include "transfer/base/log.h"

namespace {

using namespace baton;

Result<NodeConfig> read(const NodeOptions& options, const std::string& memory,
                        const std::string& chunk) {
  NodeConfig config;
  config.store = true;
  BATON_RETURN_IF_ERROR(apply(options, config));
  BATON_RETURN_IF_ERROR(read_bytes("--memory", memory, config.retained_bytes));
  if (!chunk.empty()) BATON_RETURN_IF_ERROR(read_bytes("--chunk-bytes", chunk, config.chunk_bytes));
  BATON_ASSIGN_OR_RETURN(config.token, env::token());
  return config;
}

}  // namespace

int main(int argc, char** argv) {
  // Blocked before any thread exists, so that only sigwait below gets them.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  CommandLine app("Keeps KV chunks for engines, which give and ask for them with --store.",
                  "baton-store");
  NodeOptions options;
  options.node = "127.0.0.1:9100";
  std::string memory, chunk;
  add_node_options(app, options);
  app.add_option("--memory", memory, "bytes kept in memory, such as 8GiB").required();
  app.add_option("--chunk-bytes", chunk,
                 "of the largest chunk, all layers (as the first engine's that connects)");
  if (const int code = app.parse(argc, argv); code >= 0) return code;
  Result<NodeConfig> config = read(options, memory, chunk);
  if (!config.ok()) return app.usage_error(config.status().message());
  init_logging("baton-store");
  Result<std::unique_ptr<Node>> node = Node::create(std::move(config).value());
  if (!node.ok()) {
    std::fprintf(stderr, "baton-store: %s\n", node.status().message().c_str());
    return node.status().code() == Code::kInvalidArgument ? 2 : 1;
  }
  nlohmann::ordered_json ready{{"node", (*node)->advertised()}};
  if (const auto http = (*node)->http_address()) ready["node_http"] = http->to_string();
  std::printf("READY %s\n", ready.dump().c_str());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&ends, &signal);
  log::info("ending by signal {}", signal);
  return 0;
}
