#include "perf/side.h"

#include <sys/resource.h>

#include <numeric>

#include "perf/gpu.h"
#include "perf/sizes.h"
#include "perf/unchecked_copier.h"

namespace baton::bench {

Json Spec::to_json() const {
  return {{"channel", channel_choice_name(channel)},
          {"layout", layout},
          {"block_bytes", block_bytes},
          {"block_tokens", block_tokens},
          {"layers", layers},
          {"segment_bytes", segment_bytes},
          {"pool_bytes", pool_bytes},
          {"retained", retained},
          {"checked", checked},
          {"timeline", timeline},
          {"memory", memory_text(cuda_device)},
          {"host", host},
          {"corrupt", corrupt}};
}

Result<Spec> Spec::from_json(const Json& json) {
  Spec spec;
  try {
    BATON_ASSIGN_OR_RETURN(spec.channel,
                           parse_channel_choice(json.at("channel").get<std::string>()));
    json.at("layout").get_to(spec.layout);
    json.at("block_bytes").get_to(spec.block_bytes);
    json.at("block_tokens").get_to(spec.block_tokens);
    json.at("layers").get_to(spec.layers);
    json.at("segment_bytes").get_to(spec.segment_bytes);
    json.at("pool_bytes").get_to(spec.pool_bytes);
    json.at("retained").get_to(spec.retained);
    json.at("checked").get_to(spec.checked);
    json.at("timeline").get_to(spec.timeline);
    BATON_ASSIGN_OR_RETURN(spec.cuda_device, parse_memory(json.at("memory").get<std::string>()));
    json.at("host").get_to(spec.host);
    json.at("corrupt").get_to(spec.corrupt);
  } catch (const Json::exception& error) {
    return Status(Code::kProtocol, std::string("what is to be measured: ") + error.what());
  }
  return spec;
}

Result<std::unique_ptr<Side>> Side::create(const Spec& spec, bool sends) {
  BATON_ASSIGN_OR_RETURN(const KvLayout layout,
                         bench_layout(spec.layout, spec.block_bytes, spec.block_tokens));
  std::unique_ptr<Side> side(new Side(spec));
  BATON_ASSIGN_OR_RETURN(side->pool_,
                         KvPool::create(layout, spec.layers, spec.blocks_of(spec.pool_bytes)));
  if (sends) side->pool_->fill();
  if (spec.cuda_device) BATON_RETURN_IF_ERROR(side->pool_->put_on_gpu(*spec.cuda_device));
  NodeConfig config;
  config.listen.host = spec.host;
  // Beyond loopback it was asked for (--serve --insecure).
  config.insecure = !config.listen.is_loopback();
  config.fingerprint = {.model = "baton-bench", .dtype = "bytes", .layers = spec.layers};
  if (layout.opaque()) config.fingerprint.opaque_layout = "bench";
  config.chunk_tokens = spec.chunk_tokens();
  config.kv = side->pool_->kv();
  config.mode = spec.retained ? SendMode::kRetained : SendMode::kTransient;
  const uint64_t chunk = segment_bytes(layout, config.chunk_tokens) * spec.layers;
  config.retained_bytes = spec.retained && sends ? side->pool_->bytes().size() + chunk : 0;
  // The receiver retains nothing, and a node without an arena sends transiently.
  if (config.retained_bytes == 0) config.mode = SendMode::kTransient;
  config.transit_bytes = std::max(config.transit_bytes, segment_bytes(layout, config.chunk_tokens));
  config.window_bytes = std::max(config.window_bytes, segment_bytes(layout, config.chunk_tokens));
  config.channel = spec.channel;
  if (!spec.checked) config.seams.copier = make_unchecked_copier;
  if (spec.timeline) {
    side->timeline_ = std::make_unique<Timeline>();
    config.timeline = side->timeline_.get();
  }
  BATON_ASSIGN_OR_RETURN(side->node_, Node::create(std::move(config)));
  return side;
}

Json Side::stage_seconds() const {
  const std::string text = node_->metrics().text();
  Json out = Json::object();
  for (const char* stage :
       {"queued", "offer", "wait_compute", "gather", "send", "verify_scatter"}) {
    const std::string name = std::string("\nbaton_handoff_seconds_sum{stage=\"") + stage + "\"} ";
    const size_t at = text.find(name);
    out[stage] = at == std::string::npos ? 0.0 : std::stod(text.substr(at + name.size()));
  }
  return out;
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::vector<uint32_t> prompt_tokens(uint32_t tokens) {
  std::vector<uint32_t> out(tokens);
  std::iota(out.begin(), out.end(), 1u);
  return out;
}

}  // namespace baton::bench
