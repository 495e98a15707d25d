// What a build without CUDA says to --memory cuda.
#include "perf/gpu.h"

namespace baton::bench {
namespace {

Status none() {
  return Status(Code::kUnavailable,
                "this build has no CUDA: no toolkit was found when it was configured");
}

}  // namespace

Result<std::string> gpu_name(uint32_t) { return none(); }
Result<std::unique_ptr<GpuMirror>> GpuMirror::create(uint32_t, std::span<std::byte>) {
  return none();
}
Status measure_gpu_kernels(Run&, const GpuKernels&) { return none(); }

}  // namespace baton::bench
