#include "examples/reference_engine/model_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include "examples/reference_engine/gguf.h"

namespace baton::reference {
namespace {

constexpr uint64_t kMaxParameters = uint64_t{1} << 33;

Status out_of_range(const char* field, uint64_t value, uint64_t low, uint64_t high) {
  return Status(Code::kInvalidArgument, std::string(field) + ": expected " + std::to_string(low) +
                                            " to " + std::to_string(high) + ", found " +
                                            std::to_string(value));
}

// Edits (insert, delete, replace) that turn a into b.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({replaced, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

struct IntegerKey {
  const char* name;
  uint32_t LlamaConfig::*field;
};
constexpr IntegerKey kIntegerKeys[] = {
    {"layers", &LlamaConfig::layers},     {"heads", &LlamaConfig::heads},
    {"kv_heads", &LlamaConfig::kv_heads}, {"head_dim", &LlamaConfig::head_dim},
    {"hidden", &LlamaConfig::hidden},     {"ffn", &LlamaConfig::ffn},
    {"vocab", &LlamaConfig::vocab},       {"context", &LlamaConfig::context},
};

Status unknown_key(std::string_view key) {
  std::string nearest = "seed";
  size_t best = edit_distance(key.substr(0, 64), nearest);
  const auto consider = [&](const char* name) {
    if (const size_t d = edit_distance(key.substr(0, 64), name); d < best) {
      best = d;
      nearest = name;
    }
  };
  for (const auto& known : kIntegerKeys) consider(known.name);
  consider("rope_base");
  return Status(Code::kInvalidArgument, "random model: unknown key \"" +
                                            std::string(key.substr(0, 64)) + "\": did you mean \"" +
                                            nearest + "\"?");
}

template <typename T>
Status parse_number(std::string_view key, std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error == std::errc() && end == text.data() + text.size()) return {};
  return Status(Code::kInvalidArgument, "random model: " + std::string(key) +
                                            ": expected a number, found \"" +
                                            std::string(text.substr(0, 64)) + "\"");
}

Status set_key(RandomModelSpec& spec, std::string_view key, std::string_view value) {
  for (const auto& known : kIntegerKeys) {
    if (key == known.name) return parse_number(key, value, spec.config.*known.field);
  }
  if (key == "rope_base") return parse_number(key, value, spec.config.rope_base);
  if (key == "seed") return parse_number(key, value, spec.seed);
  return unknown_key(key);
}

// A number that must fit 32 bits.
Status read_u32(const GgufFile& file, const char* key, uint32_t& out) {
  BATON_ASSIGN_OR_RETURN(const uint64_t value, file.get_unsigned(key));
  if (value > UINT32_MAX) {
    return file.error(std::string("metadata \"") + key + "\": expected less than 2^32, found " +
                      std::to_string(value));
  }
  out = static_cast<uint32_t>(value);
  return {};
}

Status read_optional_u32(const GgufFile& file, const char* key, uint32_t& out) {
  return file.find(key) == nullptr ? Status() : read_u32(file, key, out);
}

Status read_optional_float(const GgufFile& file, const char* key, float& out) {
  if (file.find(key) == nullptr) return {};
  BATON_ASSIGN_OR_RETURN(const double value, file.get_float(key));
  out = static_cast<float>(value);
  return {};
}

Status check_rotary(const GgufFile& file, const LlamaConfig& config) {
  uint32_t rotated = config.head_dim;
  BATON_RETURN_IF_ERROR(read_optional_u32(file, "llama.rope.dimension_count", rotated));
  if (rotated != config.head_dim) {
    return file.error("metadata \"llama.rope.dimension_count\": expected the head dimension, " +
                      std::to_string(config.head_dim) + ", found " + std::to_string(rotated));
  }
  if (file.find("llama.rope.scaling.type") != nullptr) {
    BATON_ASSIGN_OR_RETURN(const auto scaling, file.get_string("llama.rope.scaling.type"));
    if (scaling != "none") {
      return file.error("metadata \"llama.rope.scaling.type\": expected \"none\", found \"" +
                        std::string(scaling.substr(0, 100)) + "\"");
    }
  }
  return {};
}

}  // namespace

Status LlamaConfig::validate() const {
  const struct {
    const char* name;
    uint32_t value, low, high;
  } ranges[] = {
      {"layers", layers, 1, 1024},     {"heads", heads, 1, 1024},
      {"kv_heads", kv_heads, 1, 1024}, {"head_dim", head_dim, 2, 1024},
      {"hidden", hidden, 1, 65536},    {"ffn", ffn, 1, 1u << 18},
      {"vocab", vocab, 2, 1u << 20},   {"context", context, 1, 1u << 20},
      {"bos", bos, 0, vocab - 1},      {"eos", eos, 0, vocab - 1},
  };
  for (const auto& r : ranges) {
    if (r.value < r.low || r.value > r.high) return out_of_range(r.name, r.value, r.low, r.high);
  }
  if (heads % kv_heads != 0) {
    return Status(Code::kInvalidArgument, "heads: expected a multiple of kv_heads (" +
                                              std::to_string(kv_heads) + "), found " +
                                              std::to_string(heads));
  }
  if (head_dim % 2 != 0) {
    return Status(Code::kInvalidArgument,
                  "head_dim: expected an even number, found " + std::to_string(head_dim));
  }
  if (!(rope_base > 1.0f && rope_base <= 1e9f)) {
    return Status(Code::kInvalidArgument,
                  "rope_base: expected more than 1, up to 1e9, found " + std::to_string(rope_base));
  }
  if (!(rms_eps >= 0.0f && rms_eps < 1.0f)) {
    return Status(Code::kInvalidArgument,
                  "rms_eps: expected 0 to 1, found " + std::to_string(rms_eps));
  }
  const uint64_t layer =
      uint64_t{hidden} * (2 * q_width() + 2 * kv_width()) + uint64_t{hidden} * ffn * 3;
  if (layer * layers + uint64_t{hidden} * vocab * 2 > kMaxParameters) {
    return Status(
        Code::kInvalidArgument,
        "model size: expected at most 2^33 parameters (layers, heads, hidden, ffn, vocab)");
  }
  return {};
}

Result<LlamaConfig> LlamaConfig::from_gguf(const GgufFile& file) {
  BATON_ASSIGN_OR_RETURN(const auto architecture, file.get_string("general.architecture"));
  if (architecture != "llama") {
    return file.error("metadata \"general.architecture\": expected \"llama\", found \"" +
                      std::string(architecture.substr(0, 100)) + "\"");
  }
  LlamaConfig c;
  BATON_RETURN_IF_ERROR(read_u32(file, "llama.block_count", c.layers));
  BATON_RETURN_IF_ERROR(read_u32(file, "llama.attention.head_count", c.heads));
  c.kv_heads = c.heads;
  BATON_RETURN_IF_ERROR(read_optional_u32(file, "llama.attention.head_count_kv", c.kv_heads));
  BATON_RETURN_IF_ERROR(read_u32(file, "llama.embedding_length", c.hidden));
  BATON_RETURN_IF_ERROR(read_u32(file, "llama.feed_forward_length", c.ffn));
  BATON_RETURN_IF_ERROR(read_u32(file, "llama.context_length", c.context));
  c.head_dim = c.heads == 0 ? 0 : c.hidden / c.heads;
  BATON_RETURN_IF_ERROR(read_optional_u32(file, "llama.attention.key_length", c.head_dim));
  BATON_RETURN_IF_ERROR(read_optional_float(file, "llama.rope.freq_base", c.rope_base));
  BATON_RETURN_IF_ERROR(
      read_optional_float(file, "llama.attention.layer_norm_rms_epsilon", c.rms_eps));
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr) {
    return file.error("tensor \"token_embd.weight\": expected one, found none");
  }
  c.vocab = static_cast<uint32_t>(std::min<uint64_t>(embedding->rows(), UINT32_MAX));
  BATON_RETURN_IF_ERROR(read_u32(file, "tokenizer.ggml.bos_token_id", c.bos));
  BATON_RETURN_IF_ERROR(read_u32(file, "tokenizer.ggml.eos_token_id", c.eos));
  if (const Status status = c.validate(); !status.ok()) return file.error(status.message());
  BATON_RETURN_IF_ERROR(check_rotary(file, c));
  return c;
}

Result<RandomModelSpec> RandomModelSpec::parse(std::string_view text) {
  RandomModelSpec spec;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      return Status(Code::kInvalidArgument, "random model: expected key=value, found \"" +
                                                std::string(item.substr(0, 64)) + "\"");
    }
    BATON_RETURN_IF_ERROR(set_key(spec, item.substr(0, equals), item.substr(equals + 1)));
  }
  // The byte tokenizer needs its special tokens.
  if (spec.config.vocab < 260) {
    return Status(Code::kInvalidArgument, "random model: vocab: expected at least 260, found " +
                                              std::to_string(spec.config.vocab));
  }
  if (const Status status = spec.config.validate(); !status.ok()) {
    return Status(Code::kInvalidArgument, "random model: " + status.message());
  }
  return spec;
}

std::string RandomModelSpec::to_string() const {
  std::string text;
  for (const auto& key : kIntegerKeys) {
    text += std::string(key.name) + "=" + std::to_string(config.*key.field) + ",";
  }
  char base[32];
  std::snprintf(base, sizeof base, "%.9g", static_cast<double>(config.rope_base));
  return text + "rope_base=" + base + ",seed=" + std::to_string(seed);
}

}  // namespace baton::reference
