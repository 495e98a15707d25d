// Memory for direct I/O that is not a slot's: headers, and segments that lie unaligned.
//
// Thread safety: externally synchronised.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "transfer/base/check.h"
#include "transfer/tiers/nvme/slab_format.h"

namespace baton::nvme {

// Whole blocks, aligned to one. Move-only.
class BlockBuffer {
 public:
  BlockBuffer() = default;
  explicit BlockBuffer(size_t bytes)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, whole_blocks(bytes)))),
        bytes_(whole_blocks(bytes)) {
    BATON_CHECK(memory_ != nullptr, "out of memory");
  }

  std::byte* data() const { return memory_.get(); }
  size_t bytes() const { return bytes_; }
  // The block that begins at `at`.
  std::span<std::byte, kBlockBytes> block(size_t at = 0) const {
    return std::span<std::byte, kBlockBytes>(data() + at, kBlockBytes);
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t bytes_ = 0;
};

// Buffers used again: fresh memory is slow. What is asked for beyond `bytes` is not kept.
class BufferPool {
 public:
  BufferPool(size_t bytes, size_t most_kept) : bytes_(bytes), most_kept_(most_kept) {}

  BlockBuffer take(size_t bytes) {
    if (kept_.empty() || bytes > bytes_) return BlockBuffer(std::max(bytes, bytes_));
    BlockBuffer buffer = std::move(kept_.back());
    kept_.pop_back();
    return buffer;
  }
  void give_back(BlockBuffer buffer) {
    if (buffer.bytes() == whole_blocks(bytes_) && kept_.size() < most_kept_)
      kept_.push_back(std::move(buffer));
  }

 private:
  const size_t bytes_;
  const size_t most_kept_;
  std::vector<BlockBuffer> kept_;
};

}  // namespace baton::nvme
