// An engine reduced to its KV memory: paged blocks of all layers, in memory that is there already
// (first touch runs at a fortieth of memory speed), with bytes that say where they belong.
//
// Externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transfer/node.h"

namespace baton::bench {

class GpuMirror;

// [0, blocks) in an order that depends on `seed` alone.
std::vector<uint32_t> shuffled_blocks(uint32_t blocks, uint64_t seed);

// Remembers the order that was asked for last.
class BlockOrder {
 public:
  const std::vector<uint32_t>& get(uint32_t blocks, uint64_t seed) {
    if (order_.size() != blocks || seed_ != seed) order_ = shuffled_blocks(blocks, seed);
    seed_ = seed;
    return order_;
  }

 private:
  std::vector<uint32_t> order_;
  uint64_t seed_ = 0;
};

class KvPool {
 public:
  // Maps, pre-faults and poisons. kResourceExhausted where the memory is not to be had,
  // kInvalidArgument where a block is not whole words of 8 bytes.
  static Result<std::unique_ptr<KvPool>> create(const KvLayout& layout, uint32_t layers,
                                                uint32_t blocks);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  // From now on the engine's memory is a GPU's; what is here is a copy, for filling and comparing.
  Status put_on_gpu(uint32_t device);
  // All of it, to and from the GPU; nothing where the memory is the host's.
  Status upload();
  Status download();

  KvMemory kv() const;
  std::span<std::byte> bytes() const { return {data_, bytes_}; }
  size_t block_bytes() const { return static_cast<size_t>(layout_.block_stride); }
  std::byte* block(uint32_t layer, uint32_t block) const {
    return data_ + (size_t{layer} * blocks_ + block) * block_bytes();
  }
  uint32_t blocks() const { return blocks_; }
  uint32_t layers() const { return layers_; }

  // Every word says which one of the pool it is.
  void fill();
  void poison();
  void poison(std::span<const uint32_t> blocks);
  // Blocks here must be what fill() wrote into blocks of a pool of the same shape: block `to[i]`
  // here is block `from[i]` there, in all layers. Returns the number of words that are not.
  uint64_t wrong_words(std::span<const uint32_t> from, std::span<const uint32_t> to) const;

 private:
  KvPool(const KvLayout& layout, uint32_t layers, uint32_t blocks, std::byte* data, size_t bytes);

  const KvLayout layout_;
  const uint32_t layers_;
  const uint32_t blocks_;
  std::byte* const data_;
  const size_t bytes_;
  std::unique_ptr<GpuMirror> gpu_;  // null: host memory
  uint32_t device_ = 0;
};

}  // namespace baton::bench
