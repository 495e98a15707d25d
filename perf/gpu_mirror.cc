#include <cstdio>
#include <optional>

#include "kernels/cuda.h"
#include "perf/gpu.h"
#include "transfer/cuda/cuda_memory.h"

namespace baton::bench {
namespace {

class CudaMirror final : public GpuMirror {
 public:
  CudaMirror(uint32_t device, std::span<std::byte> host) : device_(device), host_(host) {}

  Status open() {
    BATON_RETURN_IF_ERROR(cuda_usable());
    BATON_RETURN_IF_ERROR(cuda::use_device(device_));
    BATON_ASSIGN_OR_RETURN(memory_, cuda::device_memory(host_.size()));
    auto pinned = cuda::PinnedRange::create(host_);
    if (pinned.ok()) {
      pinned_.emplace(std::move(pinned).value());
    } else {
      std::fprintf(stderr, "baton-bench: copies over PCIe will be slow: %s\n",
                   pinned.status().to_string().c_str());
    }
    return ok_status();
  }
  std::byte* data() const override { return memory_.get(); }
  Status upload() override { return copy(memory_.get(), host_.data(), cudaMemcpyHostToDevice); }
  Status download() override { return copy(host_.data(), memory_.get(), cudaMemcpyDeviceToHost); }

 private:
  Status copy(void* to, const void* from, cudaMemcpyKind kind) {
    BATON_RETURN_IF_ERROR(cuda::use_device(device_));
    BATON_RETURN_IF_ERROR(
        cuda::status_of(cudaMemcpy(to, from, host_.size(), kind), "a copy of the KV memory"));
    // From memory that is not pinned it may return before it has arrived.
    return cuda::status_of(cudaDeviceSynchronize(), "a copy of the KV memory");
  }

  const uint32_t device_;
  const std::span<std::byte> host_;
  cuda::DeviceMemory memory_;
  std::optional<cuda::PinnedRange> pinned_;
};

}  // namespace

Result<std::unique_ptr<GpuMirror>> GpuMirror::create(uint32_t device, std::span<std::byte> host) {
  auto mirror = std::make_unique<CudaMirror>(device, host);
  BATON_RETURN_IF_ERROR(mirror->open());
  return std::unique_ptr<GpuMirror>(std::move(mirror));
}

Result<std::string> gpu_name(uint32_t device) {
  BATON_RETURN_IF_ERROR(cuda_usable());
  cudaDeviceProp properties{};
  BATON_RETURN_IF_ERROR(cuda_status(cudaGetDeviceProperties(&properties, static_cast<int>(device)),
                                    "asking the GPU"));
  return std::string(properties.name);
}

}  // namespace baton::bench
