// The engine's paged KV memory: float32 blocks of every layer, and which of them are free.
//
// A layer's block is [plane][token][kv head][dim] without padding. Blocks are handed out in a
// shuffled order (seeded), so that nothing works only because blocks happen to lie side by side.
// Free blocks hold NaNs, and AddressSanitizer builds fault on a touch of them: KV that was never
// written, or a transfer that goes on after its end, shows at once.
//
// Thread safety: confined to one thread; the memory itself is shared by rules of its users.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "examples/reference_engine/llama.h"
#include "transfer/base/status.h"

namespace baton::reference {

class KvCache {
 public:
  // Reserves and touches all memory. Errors: kInvalidArgument (zero or absurd sizes),
  // kResourceExhausted (no such amount of memory).
  static Result<std::unique_ptr<KvCache>> create(const LlamaConfig& config, uint32_t block_tokens,
                                                 uint32_t blocks, uint64_t seed);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // `count` blocks, or nothing where fewer are free.
  std::optional<std::vector<uint32_t>> allocate(uint32_t count);
  // Poisons them. Each must be allocated (CHECK).
  void free(std::span<const uint32_t> blocks);

  uint32_t block_tokens() const { return view_.block_tokens; }
  uint32_t blocks() const { return view_.blocks; }
  uint32_t free_blocks() const { return static_cast<uint32_t>(free_.size()); }
  // Blocks that hold that many tokens.
  uint32_t blocks_for(uint64_t tokens) const {
    return static_cast<uint32_t>((tokens + view_.block_tokens - 1) / view_.block_tokens);
  }
  const KvView& view() const { return view_; }
  std::span<std::byte* const> layers() const { return layers_; }

 private:
  KvCache() = default;
  void poison(uint32_t block);
  void unpoison(uint32_t block);

  std::byte* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  std::vector<std::byte*> layers_;
  KvView view_;
  std::vector<uint32_t> free_;
  std::vector<bool> allocated_;
};

}  // namespace baton::reference
