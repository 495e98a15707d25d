// The shape of a Llama model: read from a GGUF file, or from "random:key=value,…".
//
// Plain values; externally synchronised.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "transfer/base/status.h"

namespace baton::reference {

class GgufFile;

struct LlamaConfig {
  uint32_t layers = 2;
  uint32_t heads = 4;  // query heads; a multiple of kv_heads
  uint32_t kv_heads = 2;
  uint32_t head_dim = 16;  // even
  uint32_t hidden = 64;
  uint32_t ffn = 128;
  uint32_t vocab = 272;
  uint32_t context = 4096;  // the most positions of one sequence
  float rope_base = 10000.0f;
  float rms_eps = 1e-5f;
  uint32_t bos = 256;
  uint32_t eos = 257;
  bool operator==(const LlamaConfig&) const = default;

  uint32_t q_width() const { return heads * head_dim; }
  uint32_t kv_width() const { return kv_heads * head_dim; }
  // Bytes of the keys and values (float32) of one token in one layer.
  uint64_t kv_bytes_per_token() const { return uint64_t{kv_width()} * 2 * sizeof(float); }

  // Every field within bounds that keep all products of sizes far from overflow, and consistent
  // with each other. kInvalidArgument names the field, its value and what was expected.
  Status validate() const;

  // From metadata "llama.*" and "tokenizer.ggml.*". kInvalidArgument names file, key, expectation;
  // an architecture other than "llama", or rotary scaling, is refused.
  static Result<LlamaConfig> from_gguf(const GgufFile& file);
};

// A seeded model of any shape, for tests. Its vocabulary is bytes and a few special tokens
// (see tokenizer.h).
struct RandomModelSpec {
  LlamaConfig config;
  uint64_t seed = 1;

  // "layers=4,heads=8,…": keys are LlamaConfig's layers, heads, kv_heads, head_dim, hidden, ffn,
  // vocab, context, rope_base, and seed; whatever is not given keeps its default (which runs
  // thousands of tokens a second). The same text gives the same weights on every machine.
  // kInvalidArgument: an unknown key (the nearest known one is named), a bad number, bad bounds.
  static Result<RandomModelSpec> parse(std::string_view text);
  // All keys, in a fixed order: equal specs give equal text.
  std::string to_string() const;
};

}  // namespace baton::reference
