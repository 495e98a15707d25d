#include "examples/reference_engine/options.h"

#include <algorithm>
#include <thread>

#include "transfer/base/cli.h"

namespace baton::reference {
namespace {

constexpr uint32_t kMaxEntries = 1u << 24;

// Options as text, before they are checked.
struct Words {
  std::string role = "both", listen = "127.0.0.1:8000";
  std::string store;
  std::string host_tier = "256MiB", transit = "32MiB", window = "64MiB";
  bool retain = false;
  uint64_t first_contact_ms = 2000, record_ms = 30'000, accept_ms = 5000, budget_ms = 600'000;
};

void add_engine_options(const Command& app, Words& words, Options& options) {
  app.add_option("--role", words.role, "prefill, decode or both (then no node unless --node)");
  app.add_option("--model", options.model, "FILE.gguf, or random:layers=4,heads=8,…").required();
  app.add_option("--model-name", options.model_name, "what clients call it (the file's own name)");
  app.add_option("--listen", words.listen, "host:port of the OpenAI API (127.0.0.1:8000)");
  app.add_option("--block-tokens", options.block_tokens, "tokens of a KV block (16)")
      .range(1u, 4096u);
  app.add_option("--kv-blocks", options.kv_blocks, "KV blocks (512)").range(1u, kMaxEntries);
  app.add_option("--threads", options.threads, "of the model, at most 64 (all cores)")
      .range(1u, 64u);
  app.add_option("--prefill-chunk", options.prefill_chunk, "prompt tokens computed in a step (128)")
      .range(1u, 65536u);
  app.add_option("--max-batch", options.max_batch, "sequences computed in a step (16)")
      .range(1u, 4096u);
  app.add_option("--max-queue", options.max_queue, "requests that may wait; more get 429 (256)")
      .range(1u, kMaxEntries);
  app.add_option("--seed", options.seed, "of the order in which KV blocks are handed out (1)");
  app.add_option("--budget-ms", words.budget_ms, "time of a request that brings no budget (600000)")
      .range(uint64_t{1}, uint64_t{24 * 3600 * 1000});
  app.add_flag("--reuse", options.reuse,
               "prompts are looked up in the node's tiers, and kept there once computed");
  app.add_flag("--refuse-when-full,!--wait-when-full", options.refuse_when_full,
               "refuse an offer at once when the line for blocks is longer than the KV cache");
}

void add_handoff_options(const Command& app, Words& words, Options& options) {
  constexpr uint64_t kDayMs = 24 * 3600 * 1000;
  app.add_option("--store", words.store,
                 "host:port of a baton-store that is given chunks and asked for them (none)");
  app.add_option("--chunk-tokens", options.chunk_tokens,
                 "tokens of a chunk, a multiple of --block-tokens (256)")
      .range(1u, 65536u);
  app.add_option("--host-tier", words.host_tier, "bytes kept in CPU memory (256MiB)");
  app.add_option("--transit", words.transit, "bytes of the transient senders' memory (32MiB)");
  app.add_option("--window", words.window, "unacknowledged bytes a handoff may have (64MiB)");
  const auto retain =
      app.add_flag("--retain", words.retain, "sent chunks stay, for retries and FETCH");
  app.add_flag("--transient", options.transient, "sent chunks are let go of once they arrived")
      .excludes(retain);
  app.add_flag("--retain-received", options.retain_received, "received chunks stay too");
  app.add_option("--first-contact-ms", words.first_contact_ms,
                 "a decoder waits so long for a sign of its prefiller (2000)")
      .range(uint64_t{1}, kDayMs);
  app.add_option("--record-ms", words.record_ms,
                 "an offer waits so long for its request to come here too (30000)")
      .range(uint64_t{1}, kDayMs);
  app.add_option("--accept-ms", words.accept_ms,
                 "a decoder waits so long for room before it refuses an offer (5000)")
      .range(uint64_t{1}, kDayMs);
}

Status read_words(const Words& words, Options& options) {
  if (words.role == "prefill")
    options.role = TransferRole::kPrefill;
  else if (words.role == "decode")
    options.role = TransferRole::kDecode;
  else if (words.role != "both")
    return Status(Code::kInvalidArgument,
                  "--role: '" + words.role + "' is not prefill, decode or both");
  BATON_RETURN_IF_ERROR(read_address("--listen", words.listen, options.listen));
  if (!options.node_options.node.empty() || options.role) options.node = HostPort{"127.0.0.1", 0};
  if (!options.node && !options.node_options.node_http.empty())
    return Status(Code::kInvalidArgument, "--node-http: there is no node without --node");
  if (!options.node && options.reuse)
    return Status(Code::kInvalidArgument, "--reuse: there is no node without --node");
  if (options.reuse && options.transient)
    return Status(Code::kInvalidArgument, "--reuse: nothing is kept with --transient");
  NodeConfig node;
  BATON_RETURN_IF_ERROR(apply(options.node_options, node));
  if (options.node && !options.node_options.node.empty()) options.node = node.listen;
  if (!words.store.empty())
    BATON_RETURN_IF_ERROR(read_address("--store", words.store, options.store.emplace()));
  if (options.node && options.chunk_tokens % options.block_tokens != 0)
    return Status(Code::kInvalidArgument,
                  "--chunk-tokens: " + std::to_string(options.chunk_tokens) +
                      " is not a multiple of the " + std::to_string(options.block_tokens) +
                      " of --block-tokens");
  BATON_RETURN_IF_ERROR(read_bytes("--host-tier", words.host_tier, options.host_tier_bytes));
  BATON_RETURN_IF_ERROR(read_bytes("--transit", words.transit, options.transit_bytes));
  BATON_RETURN_IF_ERROR(read_bytes("--window", words.window, options.window_bytes));
  options.first_contact = std::chrono::milliseconds(words.first_contact_ms);
  options.record = std::chrono::milliseconds(words.record_ms);
  options.accept = std::chrono::milliseconds(words.accept_ms);
  options.budget = std::chrono::milliseconds(words.budget_ms);
  return ok_status();
}

}  // namespace

std::variant<Options, int> parse_options(int argc, char** argv) {
  CommandLine app("Serves a Llama model on the CPU, alone or with Baton handing off KV caches.",
                  "reference_engine");
  Options options;
  options.threads = std::clamp(std::thread::hardware_concurrency(), 1u, 64u);
  Words words;
  add_engine_options(app, words, options);
  add_node_options(app, options.node_options);
  add_handoff_options(app, words, options);
  if (const int code = app.parse(argc, argv); code >= 0) return code;
  if (const Status status = read_words(words, options); !status.ok())
    return app.usage_error(status.message());
  return options;
}

}  // namespace baton::reference
