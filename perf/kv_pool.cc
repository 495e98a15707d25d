#include "perf/kv_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>

#include "perf/gpu.h"

namespace baton::bench {
namespace {

// The word of that index; odd constant, so that no two words of a pool are equal.
uint64_t word_of(uint64_t index) {
  const uint64_t x = (index + 1) * 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

}  // namespace

std::vector<uint32_t> shuffled_blocks(uint32_t blocks, uint64_t seed) {
  std::vector<uint32_t> out(blocks);
  std::iota(out.begin(), out.end(), 0u);
  std::shuffle(out.begin(), out.end(), std::mt19937_64(seed));
  return out;
}

KvPool::KvPool(const KvLayout& layout, uint32_t layers, uint32_t blocks, std::byte* data,
               size_t bytes)
    : layout_(layout), layers_(layers), blocks_(blocks), data_(data), bytes_(bytes) {}

Result<std::unique_ptr<KvPool>> KvPool::create(const KvLayout& layout, uint32_t layers,
                                               uint32_t blocks) {
  const auto block_bytes = static_cast<size_t>(layout.block_stride);
  if (block_bytes % sizeof(uint64_t) != 0)
    return Status(Code::kInvalidArgument, "a block has " + std::to_string(block_bytes) +
                                              " bytes: expected a multiple of 8");
  const size_t bytes = block_bytes * layers * blocks;
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return Status(Code::kResourceExhausted,
                  "no memory for " + std::to_string(bytes) + " bytes of KV: " + strerror(errno));
  ::madvise(data, bytes, MADV_HUGEPAGE);  // a wish: engines' arenas are mostly in huge pages
  std::unique_ptr<KvPool> pool(
      new KvPool(layout, layers, blocks, static_cast<std::byte*>(data), bytes));
  pool->poison();
  return pool;
}

KvPool::~KvPool() {
  gpu_.reset();
  ::munmap(data_, bytes_);
}

Status KvPool::put_on_gpu(uint32_t device) {
  BATON_ASSIGN_OR_RETURN(gpu_, GpuMirror::create(device, bytes()));
  device_ = device;
  return upload();
}

Status KvPool::upload() { return gpu_ ? gpu_->upload() : ok_status(); }
Status KvPool::download() { return gpu_ ? gpu_->download() : ok_status(); }

KvMemory KvPool::kv() const {
  KvMemory kv;
  kv.layout = layout_;
  for (uint32_t l = 0; l < layers_; ++l)
    kv.layer_base.push_back((gpu_ ? gpu_->data() : data_) + (block(l, 0) - data_));
  kv.blocks = blocks_;
  if (gpu_) kv.cuda_device = device_;
  return kv;
}

void KvPool::fill() {
  auto* words = reinterpret_cast<uint64_t*>(data_);
  for (size_t i = 0; i < bytes_ / sizeof(uint64_t); ++i) words[i] = word_of(i);
}

void KvPool::poison() { std::memset(data_, 0xdb, bytes_); }

void KvPool::poison(std::span<const uint32_t> blocks) {
  for (uint32_t l = 0; l < layers_; ++l)
    for (const uint32_t b : blocks) std::memset(block(l, b), 0xdb, block_bytes());
}

uint64_t KvPool::wrong_words(std::span<const uint32_t> from, std::span<const uint32_t> to) const {
  const size_t block_words = block_bytes() / sizeof(uint64_t);
  uint64_t wrong = 0;
  for (uint32_t l = 0; l < layers_; ++l)
    for (size_t b = 0; b < from.size(); ++b) {
      const auto* words = reinterpret_cast<const uint64_t*>(block(l, to[b]));
      const uint64_t first = (uint64_t{l} * blocks_ + from[b]) * block_words;
      for (size_t i = 0; i < block_words; ++i) wrong += words[i] != word_of(first + i);
    }
  return wrong;
}

}  // namespace baton::bench
