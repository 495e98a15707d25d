// An engine reduced to its KV memory: paged blocks in a layout of one's choice, filled with bytes
// that depend on (layer, token, plane, head, dim) alone, poisoned elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "transfer/node.h"

namespace baton::fakes {

struct KvShape {
  uint32_t layers = 3;
  uint32_t heads = 2;
  uint32_t head_bytes = 24;
  uint32_t block_tokens = 16;
  uint32_t blocks = 64;
  bool heads_first = false;  // [plane][head][token] instead of [plane][token][head] in a block
};

class KvEngine {
 public:
  static constexpr std::byte kPoison{0xdb};

  explicit KvEngine(KvShape shape, uint64_t seed = 1) : shape_(shape) {
    memory_.resize(shape.layers * shape.blocks * block_bytes(), kPoison);
    free_.resize(shape.blocks);
    std::iota(free_.begin(), free_.end(), 0u);
    std::shuffle(free_.begin(), free_.end(), std::mt19937_64(seed));
  }

  size_t block_bytes() const {
    return size_t{2} * shape_.block_tokens * shape_.heads * shape_.head_bytes;
  }
  size_t token_bytes() const { return size_t{2} * shape_.heads * shape_.head_bytes; }

  KvMemory kv() {
    const int64_t head = shape_.head_bytes;
    const int64_t plane = int64_t{shape_.block_tokens} * shape_.heads * head;
    KvMemory kv;
    kv.layout = {.block_tokens = shape_.block_tokens,
                 .planes = 2,
                 .heads = shape_.heads,
                 .head_bytes = shape_.head_bytes,
                 .block_stride = static_cast<int64_t>(block_bytes()),
                 .plane_stride = plane,
                 .head_stride = shape_.heads_first ? shape_.block_tokens * head : head,
                 .token_stride = shape_.heads_first ? head : shape_.heads * head};
    for (uint32_t l = 0; l < shape_.layers; ++l)
      kv.layer_base.push_back(memory_.data() + l * shape_.blocks * block_bytes());
    kv.blocks = shape_.blocks;
    return kv;
  }

  // Blocks for so many tokens, in no order.
  std::vector<uint32_t> allocate(uint32_t tokens) {
    const size_t n = (tokens + shape_.block_tokens - 1) / shape_.block_tokens;
    std::vector<uint32_t> out(free_.end() - static_cast<ptrdiff_t>(n), free_.end());
    free_.resize(free_.size() - n);
    return out;
  }

  static std::byte expected(uint32_t layer, uint32_t token, uint32_t run_byte, uint32_t prompt) {
    uint32_t x = (layer * 7919u + token) * 104729u + run_byte * 31u + prompt * 2654435761u;
    x ^= x >> 15;
    return static_cast<std::byte>(x * 2246822519u >> 24);
  }

  // "Computes" the KV of tokens [first, last) of a layer.
  void fill(uint32_t layer, const std::vector<uint32_t>& blocks, uint32_t first, uint32_t last,
            uint32_t prompt) {
    each(layer, blocks, first, last, [&](std::byte& b, uint32_t token, uint32_t run_byte) {
      b = expected(layer, token, run_byte, prompt);
    });
  }
  // Number of bytes of tokens [first, last), all layers, that are not as computed.
  size_t wrong(const std::vector<uint32_t>& blocks, uint32_t first, uint32_t last,
               uint32_t prompt) {
    size_t n = 0;
    for (uint32_t l = 0; l < shape_.layers; ++l)
      each(l, blocks, first, last, [&](std::byte& b, uint32_t token, uint32_t run_byte) {
        n += b != expected(l, token, run_byte, prompt);
      });
    return n;
  }
  // Number of bytes outside of tokens [0, tokens) of these blocks that are not poison.
  size_t disturbed(const std::vector<uint32_t>& blocks, uint32_t tokens) {
    std::vector<std::byte> copy = memory_;
    std::swap(copy, memory_);
    for (uint32_t l = 0; l < shape_.layers; ++l)
      each(l, blocks, 0, tokens, [&](std::byte& b, uint32_t, uint32_t) { b = kPoison; });
    std::swap(copy, memory_);
    size_t n = 0;
    for (const std::byte b : copy) n += b != kPoison;
    return n;
  }

 private:
  template <typename F>
  void each(uint32_t layer, const std::vector<uint32_t>& blocks, uint32_t first, uint32_t last,
            F&& f) {
    const KvLayout layout = kv().layout;
    std::byte* base = memory_.data() + layer * shape_.blocks * block_bytes();
    for (uint32_t t = first; t < last; ++t)
      for (uint32_t plane = 0; plane < 2; ++plane)
        for (uint32_t head = 0; head < shape_.heads; ++head)
          for (uint32_t d = 0; d < shape_.head_bytes; ++d) {
            std::byte* at = base + blocks[t / shape_.block_tokens] * layout.block_stride +
                            plane * layout.plane_stride + head * layout.head_stride +
                            (t % shape_.block_tokens) * layout.token_stride + d;
            f(*at, t, (plane * shape_.heads + head) * shape_.head_bytes + d);
          }
  }

  KvShape shape_;
  std::vector<std::byte> memory_;
  std::vector<uint32_t> free_;
};

}  // namespace baton::fakes
