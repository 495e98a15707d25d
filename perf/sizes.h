// Sizes as people write them, and what a model's KV cache weighs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kv_layout.h"
#include "transfer/base/status.h"

namespace baton::bench {

// As baton::parse_bytes, but not zero.
Result<uint64_t> parse_bytes(std::string_view text);
// "64KiB,16KiB,4KiB".
Result<std::vector<uint64_t>> parse_byte_list(std::string_view text);
// "1 MiB", "4 KiB", "100 B": for people.
std::string bytes_text(uint64_t bytes);

// One layer of one KV block on one rank is planes * block_tokens * kv_heads * head_dim *
// element_bytes.
struct ModelSizes {
  std::string name;
  uint32_t layers = 0;
  uint32_t planes = 2;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t element_bytes = 2;
  uint32_t block_tokens = 16;

  uint64_t token_bytes() const { return uint64_t{planes} * kv_heads * head_dim * element_bytes; }
  uint64_t block_bytes() const { return token_bytes() * block_tokens; }
};

// A name from the list below, or a JSON file of the fields above (`name` may be missing).
// kInvalidArgument naming the field or the names known.
Result<ModelSizes> model_sizes(const std::string& name_or_file);

// How a block's tokens, heads and planes lie: "one-run" (the block is one run), "nhd", "hnd"
// ([plane][token][head][dim] and [plane][head][token][dim]), "opaque".
Result<KvLayout> bench_layout(std::string_view name, uint64_t block_bytes, uint32_t block_tokens);

}  // namespace baton::bench
