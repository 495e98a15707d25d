#include "perf/sizes.h"

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "transfer/base/bytes.h"

namespace baton::bench {
namespace {

// One rank, no tensor parallelism, 16-bit elements; 16 tokens a block, as vLLM's default, and 64
// for MLA.
const std::array<ModelSizes, 5>& known_models() {
  static const std::array<ModelSizes, 5> models{{{"llama-3.1-8b", 32, 2, 8, 128, 2, 16},
                                                 {"llama-3.1-70b", 80, 2, 8, 128, 2, 16},
                                                 {"qwen3-32b", 64, 2, 8, 128, 2, 16},
                                                 {"qwen3-235b", 94, 2, 4, 128, 2, 16},
                                                 {"deepseek-v3", 61, 1, 1, 576, 2, 64}}};
  return models;
}

Status bad(const std::string& text) { return Status(Code::kInvalidArgument, text); }

Result<ModelSizes> read_model(const std::string& file) {
  std::ifstream in(file);
  if (!in) {
    std::string names;
    for (const ModelSizes& model : known_models()) names += model.name + ", ";
    return bad("--model is '" + file + "': expected " + names + "or a JSON file of sizes");
  }
  const auto json = nlohmann::json::parse(in, nullptr, false);
  if (!json.is_object()) return bad(file + ": expected one JSON object of sizes");
  ModelSizes model{.name = file};
  const std::array<std::pair<const char*, uint32_t*>, 6> fields{
      {{"layers", &model.layers},
       {"planes", &model.planes},
       {"kv_heads", &model.kv_heads},
       {"head_dim", &model.head_dim},
       {"element_bytes", &model.element_bytes},
       {"block_tokens", &model.block_tokens}}};
  for (const auto& [key, value] : json.items()) {
    if (key == "name" && value.is_string()) {
      model.name = value.get<std::string>();
      continue;
    }
    bool known = false;
    for (const auto& [name, field] : fields) {
      if (key != name) continue;
      known = value.is_number_unsigned() && value.get<uint64_t>() <= 1u << 20;
      if (known) *field = value.get<uint32_t>();
    }
    if (!known)
      return bad(file + ": '" + key + "' is " + value.dump() +
                 ": expected name, layers, planes, kv_heads, head_dim, element_bytes, "
                 "block_tokens, as numbers up to 1048576");
  }
  for (const auto& [name, field] : fields)
    if (*field == 0) return bad(file + ": '" + name + "' is 0 or missing");
  return model;
}

}  // namespace

Result<uint64_t> parse_bytes(std::string_view text) {
  BATON_ASSIGN_OR_RETURN(const uint64_t bytes, baton::parse_bytes(text));
  if (bytes == 0) return bad("the size is '" + std::string(text) + "': expected at least 1");
  return bytes;
}

Result<std::vector<uint64_t>> parse_byte_list(std::string_view text) {
  std::vector<uint64_t> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    BATON_ASSIGN_OR_RETURN(const uint64_t bytes, parse_bytes(text.substr(at, comma - at)));
    out.push_back(bytes);
    at = comma + 1;
  }
  return out;
}

std::string bytes_text(uint64_t bytes) {
  for (const auto& [unit, name] :
       {std::pair{1u << 30, " GiB"}, {1u << 20, " MiB"}, {1u << 10, " KiB"}})
    if (bytes >= unit && bytes % unit == 0) return std::to_string(bytes / unit) + name;
  return std::to_string(bytes) + " B";
}

Result<ModelSizes> model_sizes(const std::string& name_or_file) {
  for (const ModelSizes& model : known_models())
    if (model.name == name_or_file) return model;
  return read_model(name_or_file);
}

Result<KvLayout> bench_layout(std::string_view name, uint64_t block_bytes, uint32_t block_tokens) {
  if (block_bytes == 0 || block_bytes > kMaxBlockBytes || block_tokens == 0 ||
      block_bytes % block_tokens != 0)
    return bad("a block of " + std::to_string(block_bytes) + " bytes does not hold " +
               std::to_string(block_tokens) + " tokens: expected a multiple, at most 2 GiB");
  KvLayout layout;
  layout.block_tokens = block_tokens;
  layout.block_stride = static_cast<int64_t>(block_bytes);
  const auto token_bytes = static_cast<uint32_t>(block_bytes / block_tokens);
  if (name == "opaque") {
    layout.opaque_block_bytes = block_bytes;
    return layout;
  }
  const bool one_run = name == "one-run";
  if (!one_run && name != "nhd" && name != "hnd")
    return bad("the layout is '" + std::string(name) + "': expected one-run, nhd, hnd or opaque");
  layout.planes = one_run ? 1 : 2;
  layout.heads = one_run ? 1 : 8;
  if (token_bytes % (layout.planes * layout.heads) != 0)
    return bad("a token of " + std::to_string(token_bytes) +
               " bytes does not divide into 2 planes of 8 heads, as layout " + std::string(name) +
               " has");
  layout.head_bytes = token_bytes / layout.planes / layout.heads;
  const int64_t head = layout.head_bytes;
  layout.plane_stride = head * layout.heads * block_tokens;
  layout.head_stride = name == "hnd" ? head * block_tokens : head;
  layout.token_stride = name == "hnd" ? head : head * layout.heads;
  BATON_RETURN_IF_ERROR(validate(layout));
  return layout;
}

}  // namespace baton::bench
