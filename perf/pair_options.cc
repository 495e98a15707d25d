#include "perf/pair_options.h"

#include "perf/gpu.h"
#include "perf/sizes.h"

namespace baton::bench {
namespace {

constexpr uint16_t kServePort = 7311;
constexpr uint32_t kSegmentTokens = 256;  // of a model's own segment

Status refused(const std::string& text) { return Status(Code::kInvalidArgument, text); }

}  // namespace

void add_pair_options(const Command& command, PairOptions& options) {
  options.command = command;
  const auto own = [](const std::string& value) { return " (" + value + ")"; };
  command.add_option("--channel", options.channel,
                     "local, tcp, ucx or auto" + own(options.channel));
  command
      .add_option("--layers", options.layers, "of the model" + own(std::to_string(options.layers)))
      .range(1u, 1024u);
  command.add_option("--bytes", options.bytes, "of KV, all layers" + own(options.bytes));
  command.add_option("--block-bytes", options.block_bytes,
                     "of one layer of one KV block; a list" + own(options.block_bytes));
  command
      .add_option("--block-tokens", options.block_tokens,
                  "tokens of a block" + own(std::to_string(options.block_tokens)))
      .range(1u, 4096u);
  command.add_option("--segment-bytes", options.segment_bytes,
                     "of one layer of a chunk" + own(options.segment_bytes));
  command.add_option("--layout", options.layout,
                     "of a block: one-run, nhd, hnd, opaque" + own(options.layout));
  command.add_option("--mode", options.mode, "transient or retained" + own(options.mode))
      .one_of({"transient", "retained"});
  command.add_option("--model", options.model,
                     "layers and sizes of llama-3.1-8b, llama-3.1-70b, qwen3-32b, qwen3-235b, "
                     "deepseek-v3, or of a JSON file");
  command.add_option("--connect", options.connect,
                     "HOST[:PORT] of a baton-bench --serve (a process of its own)");
}

Result<std::vector<Spec>> pair_specs(const PairOptions& options, const Common& common) {
  Spec spec;
  BATON_ASSIGN_OR_RETURN(spec.channel, parse_channel_choice(options.channel));
  BATON_ASSIGN_OR_RETURN(spec.pool_bytes, parse_bytes(options.bytes));
  BATON_ASSIGN_OR_RETURN(std::vector<uint64_t> block_bytes, parse_byte_list(options.block_bytes));
  BATON_ASSIGN_OR_RETURN(spec.segment_bytes, parse_bytes(options.segment_bytes));
  spec.layers = options.layers;
  spec.block_tokens = options.block_tokens;
  spec.layout = options.layout;
  spec.retained = options.mode == "retained";
  spec.corrupt = common.corrupt != 0;
  if (!options.model.empty()) {
    BATON_ASSIGN_OR_RETURN(const ModelSizes model, model_sizes(options.model));
    const auto given = [&](const char* name) { return options.command.given(name); };
    if (!given("--layers")) spec.layers = model.layers;
    if (!given("--block-tokens")) spec.block_tokens = model.block_tokens;
    if (!given("--block-bytes")) block_bytes = {model.token_bytes() * spec.block_tokens};
    if (!given("--segment-bytes")) spec.segment_bytes = model.token_bytes() * kSegmentTokens;
  }
  std::vector<Spec> specs;
  for (const uint64_t bytes : block_bytes) {
    BATON_RETURN_IF_ERROR(bench_layout(spec.layout, bytes, spec.block_tokens).status());
    if (spec.pool_bytes / spec.layers < bytes)
      return refused("--bytes holds no block of " + std::to_string(bytes) + " bytes in each of " +
                     std::to_string(spec.layers) + " layers");
    spec.block_bytes = bytes;
    specs.push_back(spec);
  }
  return specs;
}

Result<uint64_t> handoff_bytes(const PairOptions& options) { return parse_bytes(options.bytes); }

Result<std::optional<HostPort>> other_host(const PairOptions& options) {
  if (options.connect.empty()) return std::optional<HostPort>();
  Result<HostPort> address = HostPort::parse(options.connect);
  if (!address.ok()) address = HostPort::parse(options.connect + ":" + std::to_string(kServePort));
  if (!address.ok()) return address.status();
  return std::optional<HostPort>(*address);
}

Json pair_parameters(const Spec& spec, const PairOptions& options) {
  Json out{{"channel", channel_choice_name(spec.channel)},
           {"mode", options.mode},
           {"layers", spec.layers},
           {"block_bytes", spec.block_bytes},
           {"segment_bytes", spec.segment_bytes}};
  if (spec.layout != "one-run") out["layout"] = spec.layout;
  if (spec.cuda_device) out["memory"] = memory_text(spec.cuda_device);
  if (!options.model.empty()) out["model"] = options.model;
  if (!options.connect.empty()) out["connect"] = options.connect;
  return out;
}

Way reference_way(Pair& pair) {
  if (pair.spec().channel == ChannelChoice::kLocal)
    return {"bare loops", [&pair] { return pair.ring(); }};
  if (pair.spec().channel == ChannelChoice::kUcx)
    return {"active messages", [&pair] { return pair.ucx(UcxErrors::kPeer); }};
  return {"plain stream", [&pair] { return pair.stream(pair.side().pool().bytes().size()); }};
}

std::string reference_name(const Spec& spec) {
  if (spec.channel == ChannelChoice::kLocal)
    return "both shuffled copies as bare loops in two processes";
  if (spec.channel == ChannelChoice::kUcx)
    return "contiguous 4 MiB active messages of UCX over TCP, PEER";
  return "one contiguous 4 MiB stream on a plain socket";
}

}  // namespace baton::bench
