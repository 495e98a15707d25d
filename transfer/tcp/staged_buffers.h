// Memory for segments that cannot be received into place, kept for the next one and bounded.
//
// Confined to one thread, like the channel; a buffer may outlive its pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace baton::tcp {

class StagedBuffers {
 public:
  class Buffer {
   public:
    explicit Buffer(size_t bytes)
        : bytes_(bytes),
          memory_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64}))) {}
    ~Buffer() { ::operator delete (memory_, std::align_val_t{64}); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    std::span<std::byte> bytes() { return {memory_, bytes_}; }

   private:
    const size_t bytes_;
    std::byte* const memory_;
  };

  // At most that many bytes are lent at a time, but always one buffer. `on_free` is called whenever
  // one came back after take() had none.
  StagedBuffers(size_t max_bytes, std::function<void()> on_free)
      : state_(std::make_shared<State>(max_bytes, std::move(on_free))) {}
  ~StagedBuffers() { state_->on_free = nullptr; }

  // At least that large; it comes back when its last pointer goes. Null when too much is lent.
  std::shared_ptr<Buffer> take(size_t bytes);

 private:
  struct State {
    State(size_t max_bytes, std::function<void()> on_free)
        : max_bytes(max_bytes), on_free(std::move(on_free)) {}
    const size_t max_bytes;
    std::function<void()> on_free;
    size_t lent = 0;
    bool missed = false;
    std::unique_ptr<Buffer> spare;  // first touch is slow: one is kept
  };
  const std::shared_ptr<State> state_;
};

}  // namespace baton::tcp
