#include "examples/reference_engine/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "transfer/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace baton::reference {
namespace {

constexpr uint32_t kMaxBlockTokens = 4096;
constexpr uint32_t kMaxBlocks = 1u << 24;
constexpr uint64_t kMaxBytes = uint64_t{1} << 42;
constexpr int kNan = 0xff;  // four of these bytes are a quiet NaN
constexpr size_t kPage = 4096;

}  // namespace

Result<std::unique_ptr<KvCache>> KvCache::create(const LlamaConfig& config, uint32_t block_tokens,
                                                 uint32_t blocks, uint64_t seed) {
  if (block_tokens == 0 || block_tokens > kMaxBlockTokens)
    return Status(Code::kInvalidArgument, "block tokens: " + std::to_string(block_tokens) +
                                              " is not 1…" + std::to_string(kMaxBlockTokens));
  if (blocks == 0 || blocks > kMaxBlocks)
    return Status(Code::kInvalidArgument, "KV blocks: " + std::to_string(blocks) + " is not 1…" +
                                              std::to_string(kMaxBlocks));
  const uint64_t layer_bytes = config.kv_bytes_per_token() * block_tokens * blocks;
  const uint64_t stride = (layer_bytes + kPage - 1) / kPage * kPage;
  if (stride > kMaxBytes / config.layers)
    return Status(Code::kInvalidArgument,
                  "the KV cache would be larger than " + std::to_string(kMaxBytes) + " bytes");

  std::unique_ptr<KvCache> cache(new KvCache);
  const size_t bytes = stride * config.layers;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return Status(Code::kResourceExhausted,
                  "no memory for a KV cache of " + std::to_string(bytes) + " bytes", errno);
  madvise(memory, bytes, MADV_HUGEPAGE);
  cache->memory_ = static_cast<std::byte*>(memory);
  cache->memory_bytes_ = bytes;
  for (uint32_t layer = 0; layer < config.layers; ++layer)
    cache->layers_.push_back(cache->memory_ + layer * stride);
  cache->view_ = KvView::packed(config, cache->layers_, block_tokens, blocks);
  cache->allocated_.assign(blocks, false);
  cache->free_.resize(blocks);
  std::iota(cache->free_.begin(), cache->free_.end(), 0u);
  std::shuffle(cache->free_.begin(), cache->free_.end(), std::mt19937_64(seed));
  for (uint32_t block = 0; block < blocks; ++block) cache->poison(block);
  return cache;
}

KvCache::~KvCache() {
  if (memory_ == nullptr) return;
  ASAN_UNPOISON_MEMORY_REGION(memory_, memory_bytes_);
  munmap(memory_, memory_bytes_);
}

std::optional<std::vector<uint32_t>> KvCache::allocate(uint32_t count) {
  if (count > free_.size()) return std::nullopt;
  std::vector<uint32_t> taken(free_.end() - count, free_.end());
  free_.resize(free_.size() - count);
  for (const uint32_t block : taken) {
    allocated_[block] = true;
    unpoison(block);
  }
  return taken;
}

void KvCache::free(std::span<const uint32_t> blocks) {
  for (const uint32_t block : blocks) {
    BATON_CHECK(block < allocated_.size() && allocated_[block], "freeing a block nobody holds");
    allocated_[block] = false;
    poison(block);
    // Into the middle of the list, so that a block rarely returns to whom it just left.
    free_.push_back(block);
    std::swap(free_.back(), free_[free_.size() / 2]);
  }
}

void KvCache::poison(uint32_t block) {
  for (std::byte* layer : layers_) {
    std::byte* at = layer + block * view_.block_stride;
    std::memset(at, kNan, view_.block_stride);
    ASAN_POISON_MEMORY_REGION(at, view_.block_stride);
  }
}

void KvCache::unpoison(uint32_t block) {
  for (std::byte* layer : layers_)
    ASAN_UNPOISON_MEMORY_REGION(layer + block * view_.block_stride, view_.block_stride);
}

}  // namespace baton::reference
