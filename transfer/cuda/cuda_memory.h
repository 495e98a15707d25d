// CUDA's handles as owners, and pointers as CUDA sees them. Present where the build has CUDA.
//
// Each is made on the calling thread's current device, and may be destroyed on any thread. Errors:
// kUnavailable (no GPU), kResourceExhausted (memory), kInternal, with CUDA's code as native().
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "transfer/base/status.h"

namespace baton::cuda {

// As cuda_status(), and kResourceExhausted for memory. Takes the error off the calling thread:
// later launches would answer with it.
Status status_of(cudaError_t error, const std::string& what);

Status use_device(uint32_t device);

struct FreeDevice {
  void operator()(std::byte* memory) const;
};
struct FreePinned {
  void operator()(std::byte* memory) const;
};
struct DestroyStream {
  void operator()(cudaStream_t stream) const;
};
struct DestroyEvent {
  void operator()(cudaEvent_t event) const;
};

using DeviceMemory = std::unique_ptr<std::byte, FreeDevice>;
using PinnedMemory = std::unique_ptr<std::byte, FreePinned>;
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;
using Event = std::unique_ptr<CUevent_st, DestroyEvent>;

Result<DeviceMemory> device_memory(size_t bytes);
Result<PinnedMemory> pinned_memory(size_t bytes);  // host memory, mapped
Result<Stream> stream();                           // waits for no other
// Whoever waits for it sleeps; or, with timing, it can be asked for times between two.
Result<Event> event(bool timing = false);

// Host memory that was there before, pinned while this lives.
class PinnedRange {
 public:
  static Result<PinnedRange> create(std::span<std::byte> memory);
  PinnedRange(PinnedRange&& other) noexcept : memory_(std::exchange(other.memory_, {})) {}
  PinnedRange& operator=(PinnedRange&&) = delete;
  ~PinnedRange();

  bool holds(const std::byte* begin, size_t bytes) const {
    return begin >= memory_.data() && begin + bytes <= memory_.data() + memory_.size();
  }

 private:
  explicit PinnedRange(std::span<std::byte> memory) : memory_(memory) {}
  std::span<std::byte> memory_;
};

// Whether that byte lies in the GPU's memory (managed memory counts); `what` names it in the error,
// kInvalidArgument.
Status check_on_device(const std::byte* at, uint32_t device, const std::string& what);

}  // namespace baton::cuda
