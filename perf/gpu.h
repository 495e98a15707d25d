// What questions need of a GPU. In a build without CUDA all of it answers kUnavailable.
//
// Externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "perf/bench.h"

namespace baton::bench {

// "host", or "cuda" or "cuda:N" for the memory of GPU 0 or N. kInvalidArgument otherwise.
Result<std::optional<uint32_t>> parse_memory(std::string_view text);
std::string memory_text(const std::optional<uint32_t>& cuda_device);

// Its name, as results say it.
Result<std::string> gpu_name(uint32_t device);

// A copy in a GPU's memory of host memory that outlives it. The host memory is pinned where
// that can be, so that copies run at PCIe's pace; otherwise stderr says so.
class GpuMirror {
 public:
  virtual ~GpuMirror() = default;
  static Result<std::unique_ptr<GpuMirror>> create(uint32_t device, std::span<std::byte> host);

  virtual std::byte* data() const = 0;
  // One copy of all of it.
  virtual Status upload() = 0;
  virtual Status download() = 0;
};

// `kernels --memory cuda`: lines for each length of a block.
struct GpuKernels {
  uint32_t device = 0;
  uint64_t bytes = 0;  // copied in a sample
  uint64_t segment_bytes = 0;
  uint64_t block_bytes = 0;  // a block is one run
};
Status measure_gpu_kernels(Run& run, const GpuKernels& what);

}  // namespace baton::bench
