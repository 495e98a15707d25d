#include "examples/reference_engine/options.h"

#include <algorithm>
#include <charconv>
#include <thread>

#include "transfer/base/cli.h"

namespace baton::reference {
namespace {

constexpr uint32_t kMaxEntries = 1u << 24;

// Options as text, before they are checked.
struct Words {
  std::string role = "both", listen = "127.0.0.1:8000", node, node_http;
  std::string channel = "auto";
  std::string host_tier = "256MiB", transit = "32MiB", window = "64MiB";
  bool retain = false;
  uint64_t heartbeat_ms = 200, first_contact_ms = 2000, record_ms = 30'000, accept_ms = 5000;
  uint64_t progress_ms = 2000, budget_ms = 600'000;
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
  app.add_flag("--refuse-when-full,!--wait-when-full", options.refuse_when_full,
               "refuse an offer at once when the line for blocks is longer than the KV cache");
}

void add_node_options(const Command& app, Words& words, Options& options) {
  constexpr uint64_t kDayMs = 24 * 3600 * 1000;
  app.add_option("--node", words.node, "host:port of the node's control connections");
  app.add_option("--node-http", words.node_http, "host:port of the node's HTTP (none)");
  app.add_option("--advertise", options.advertise,
                 "host, or host:port, at which peers dial the node (as in --node)");
  app.add_option("--tls-cert", options.tls.certificate,
                 "PEM file: the node's certificate; control connections then use mutual TLS 1.3");
  app.add_option("--tls-key", options.tls.key, "PEM file: its key, closed to other users");
  app.add_option("--tls-ca", options.tls.authority,
                 "PEM file: the authority whose certificates are let in");
  app.add_flag("--insecure", options.insecure,
               "the node may listen beyond loopback although no token is set");
  app.add_option("--chunk-tokens", options.chunk_tokens,
                 "tokens of a chunk, a multiple of --block-tokens (256)")
      .range(1u, 65536u);
  app.add_option("--host-tier", words.host_tier, "bytes kept in CPU memory (256MiB)");
  app.add_option("--transit", words.transit, "bytes of the transient senders' memory (32MiB)");
  app.add_option("--window", words.window, "unacknowledged bytes a handoff may have (64MiB)");
  app.add_option("--channel", words.channel,
                 "how KV bytes move: auto, local (shared memory), tcp or ucx (auto)");
  app.add_option("--tcp-port", options.tcp_port, "where the tcp channel accepts lanes (any)");
  app.add_option("--tcp-lanes", options.tcp_lanes, "connections of a tcp channel (2)")
      .range(1u, 16u);
  app.add_option("--tcp-congestion", options.tcp_congestion,
                 "congestion control of the tcp channel (cubic on loopback, else the system's)");
  const auto retain =
      app.add_flag("--retain", words.retain, "sent chunks stay, for retries and FETCH");
  app.add_flag("--transient", options.transient, "sent chunks are let go of once they arrived")
      .excludes(retain);
  app.add_flag("--retain-received", options.retain_received, "received chunks stay too");
  app.add_flag("--huge-pages", options.huge_pages, "for the node's memory");
  app.add_option("--heartbeat-ms", words.heartbeat_ms, "between heartbeats (200)")
      .range(uint64_t{1}, kDayMs);
  app.add_option("--first-contact-ms", words.first_contact_ms,
                 "a decoder waits so long for a sign of its prefiller (2000)")
      .range(uint64_t{1}, kDayMs);
  app.add_option("--record-ms", words.record_ms,
                 "an offer waits so long for its request to come here too (30000)")
      .range(uint64_t{1}, kDayMs);
  app.add_option("--accept-ms", words.accept_ms,
                 "a decoder waits so long for room before it refuses an offer (5000)")
      .range(uint64_t{1}, kDayMs);
  app.add_option("--progress-ms", words.progress_ms, "between verified bytes (2000)")
      .range(uint64_t{1}, kDayMs);
}

Status read_address(const char* flag, const std::string& text, HostPort& address) {
  auto parsed = HostPort::parse(text);
  if (!parsed.ok())
    return Status(Code::kInvalidArgument, std::string(flag) + ": " + parsed.status().message());
  address = std::move(parsed).value();
  return ok_status();
}

Status read_bytes(const char* flag, const std::string& text, uint64_t& bytes) {
  const auto parsed = parse_bytes(text);
  if (!parsed.ok())
    return Status(Code::kInvalidArgument, std::string(flag) + ": " + parsed.status().message());
  bytes = *parsed;
  return ok_status();
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
  if (!words.node.empty())
    BATON_RETURN_IF_ERROR(read_address("--node", words.node, options.node.emplace()));
  else if (options.role)
    options.node = HostPort{"127.0.0.1", 0};
  if (!words.node_http.empty()) {
    if (!options.node)
      return Status(Code::kInvalidArgument, "--node-http: there is no node without --node");
    BATON_RETURN_IF_ERROR(
        read_address("--node-http", words.node_http, options.node_http.emplace()));
  }
  if (options.node && options.chunk_tokens % options.block_tokens != 0)
    return Status(Code::kInvalidArgument,
                  "--chunk-tokens: " + std::to_string(options.chunk_tokens) +
                      " is not a multiple of the " + std::to_string(options.block_tokens) +
                      " of --block-tokens");
  auto channel = parse_channel_choice(words.channel);
  if (!channel.ok())
    return Status(Code::kInvalidArgument, "--channel: " + channel.status().message());
  options.channel = *channel;
  BATON_RETURN_IF_ERROR(read_bytes("--host-tier", words.host_tier, options.host_tier_bytes));
  BATON_RETURN_IF_ERROR(read_bytes("--transit", words.transit, options.transit_bytes));
  BATON_RETURN_IF_ERROR(read_bytes("--window", words.window, options.window_bytes));
  options.heartbeat = std::chrono::milliseconds(words.heartbeat_ms);
  options.first_contact = std::chrono::milliseconds(words.first_contact_ms);
  options.record = std::chrono::milliseconds(words.record_ms);
  options.accept = std::chrono::milliseconds(words.accept_ms);
  options.progress = std::chrono::milliseconds(words.progress_ms);
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
  add_node_options(app, words, options);
  if (const int code = app.parse(argc, argv); code >= 0) return code;
  if (const Status status = read_words(words, options); !status.ok())
    return app.usage_error(status.message());
  return options;
}

Result<uint64_t> parse_bytes(const std::string& text) {
  const Status wrong(Code::kInvalidArgument,
                     "'" + text + "' is not a number of bytes such as 256MiB");
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return wrong;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const int shift = unit.empty()    ? 0
                    : unit == "KiB" ? 10
                    : unit == "MiB" ? 20
                    : unit == "GiB" ? 30
                                    : -1;
  if (shift < 0 || number > (uint64_t{1} << 44) >> shift) return wrong;
  return number << shift;
}

}  // namespace baton::reference
