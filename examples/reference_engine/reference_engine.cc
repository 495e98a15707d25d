#include "examples/reference_engine/reference_engine.h"

#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "examples/reference_engine/engine.h"
#include "examples/reference_engine/node_transfers.h"
#include "examples/reference_engine/options.h"
#include "examples/reference_engine/server.h"
#include "router/http/event_loop.h"
#include "transfer/base/env.h"
#include "transfer/base/log.h"

namespace baton::reference {
namespace {

constexpr Duration kLastAnswers = std::chrono::milliseconds(500);

Result<NodeConfig> node_config(const Options& options, const Model& model, const KvCache& cache,
                               Token token, NodeSeams seams) {
  NodeConfig config;
  BATON_RETURN_IF_ERROR(apply(options.node_options, config));
  config.listen = *options.node;
  config.tiers.store = options.store;
  config.fingerprint = fingerprint_of(model);
  config.chunk_tokens = options.chunk_tokens;
  config.kv = kv_memory_of(cache, model.llama->config());
  config.mode = options.transient ? SendMode::kTransient : SendMode::kRetained;
  config.retained_bytes = options.host_tier_bytes;
  config.transit_bytes = options.transit_bytes;
  config.window_bytes = options.window_bytes;
  config.retain_received = options.retain_received;
  config.token = std::move(token);
  config.receiver.first_contact_deadline = options.first_contact;
  config.receiver.record_ttl = options.record;
  config.receiver.accept_deadline = options.accept;
  // A peer with the same options refuses by itself before this is over.
  config.sender.accept_deadline = options.record + options.accept + std::chrono::seconds(1);
  config.seams = std::move(seams);
  return config;
}

// Everything that runs, in the order of construction; destroyed in reverse: first nobody asks, then
// nothing computes, then nothing is transferred, then the memory goes.
struct Program {
  Model model;
  std::unique_ptr<KvCache> cache;
  Metrics own_metrics;  // where there is no node
  std::unique_ptr<Node> node;
  std::unique_ptr<KvTransfers> transfers;
  std::unique_ptr<Engine> engine;
  http::EventLoop loop;
  std::unique_ptr<ApiServer> api;

  Metrics& metrics() { return node ? node->metrics() : own_metrics; }
};

Status start(Program& program, const Options& options, EngineSeams seams) {
  BATON_ASSIGN_OR_RETURN(const Token token, env::token());
  BATON_ASSIGN_OR_RETURN(program.model, load_model(options.model, options.threads));
  const LlamaConfig& llama = program.model.llama->config();
  BATON_ASSIGN_OR_RETURN(
      program.cache, KvCache::create(llama, options.block_tokens, options.kv_blocks, options.seed));
  ApiConfig api{.listen = options.listen,
                .model_name = options.model_name.empty() ? program.model.name : options.model_name,
                .budget = options.budget,
                .only_role = options.role,
                .token = token};
  if (options.node) {
    BATON_ASSIGN_OR_RETURN(NodeConfig config, node_config(options, program.model, *program.cache,
                                                          token, std::move(seams.node)));
    BATON_ASSIGN_OR_RETURN(program.node, Node::create(std::move(config)));
    program.transfers = make_node_transfers(*program.node);
    api.own_node = program.node->advertised();
  }
  program.engine = std::make_unique<Engine>(
      *program.model.llama, *program.cache,
      EngineConfig{.prefill_tokens = options.prefill_chunk,
                   .max_batch = options.max_batch,
                   .max_queue = options.max_queue,
                   .refuse_when_full = options.refuse_when_full,
                   .reuse = options.reuse,
                   .before_layer_ready = std::move(seams.before_layer_ready)},
      program.transfers.get(), program.metrics());
  BATON_ASSIGN_OR_RETURN(program.api, ApiServer::listen(program.loop, std::move(api), program.model,
                                                        *program.engine, program.metrics()));
  return ok_status();
}

void print_ready(const Program& program) {
  nlohmann::ordered_json ready{{"listen", program.api->address().to_string()}};
  if (program.node) {
    ready["node"] = program.node->advertised();
    if (const auto http = program.node->http_address()) ready["node_http"] = http->to_string();
  }
  std::printf("READY %s\n", ready.dump().c_str());
  std::fflush(stdout);
}

}  // namespace

int reference_engine_main(int argc, char** argv, EngineSeams seams) {
  // Blocked before any thread exists, so that only sigwait below gets them.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  auto parsed = parse_options(argc, argv);
  if (const int* code = std::get_if<int>(&parsed)) return *code;
  init_logging("reference_engine");
  Program program;
  if (const Status status = start(program, std::get<Options>(parsed), std::move(seams));
      !status.ok()) {
    std::fprintf(stderr, "reference_engine: %s\n", status.message().c_str());
    const bool ours = status.code() == Code::kInvalidArgument || status.code() == Code::kNotFound;
    return ours ? 2 : 1;
  }
  print_ready(program);
  int signal = 0;
  sigwait(&ends, &signal);
  log::info("ending by signal {}", signal);
  program.engine->stop();
  program.api->stop(kLastAnswers);
  return 0;
}

}  // namespace baton::reference
