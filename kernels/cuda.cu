// Launches only: the kernels' bodies are in gather_device.h and scatter_device.h.
#include <cuda_runtime.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/gather_device.h"
#include "kernels/scatter_device.h"

namespace baton {
namespace {

__device__ const NhKeys device_nh_keys = make_nh_keys();

// The lanes of a warp.
class Warp {
 public:
  __device__ Warp() : lane_(threadIdx.x % kLanes), keys_(lane_keys(device_nh_keys, lane_)) {}

  template <typename F>
  __device__ NhPair sum(F&& of_lane) {
    NhPair nh = of_lane(keys_, lane_);
    for (uint32_t step = kLanes / 2; step > 0; step /= 2) {
      nh.h1 += __shfl_xor_sync(0xffffffff, nh.h1, step);
      nh.h2 += __shfl_xor_sync(0xffffffff, nh.h2, step);
    }
    return nh;
  }

  __device__ void add(uint64_t* sum, uint64_t value) {
    static_assert(sizeof(unsigned long long) == sizeof(uint64_t));
    if (lane_ == 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
    }
  }

 private:
  uint32_t lane_;
  LaneKeys keys_;
};

template <typename Body>
__global__ void segments_kernel(const __grid_constant__ DeviceBatch batch, uint64_t* sums) {
  Warp warp;
  const uint32_t warps_of_block = blockDim.x / kLanes;
  run_worker<Body>(batch, sums, blockIdx.x * warps_of_block + threadIdx.x / kLanes,
                   gridDim.x * warps_of_block, warp);
}

template <typename Body>
Status launch(std::span<const LaunchSegment> segments, Checksum* sums, LaunchShape shape,
              CudaStream stream) {
  if (shape.blocks == 0 || shape.threads == 0 || shape.threads % kLanes != 0 ||
      shape.threads > 1024) {
    return {Code::kInvalidArgument, "launch of " + std::to_string(shape.blocks) + " blocks of " +
                                        std::to_string(shape.threads) + " threads"};
  }
  std::vector<DeviceBatch> batches;  // all of them first: nothing is enqueued if one is refused
  for (size_t done = 0; done < segments.size(); done += kBatchSegments) {
    const size_t count = std::min<size_t>(kBatchSegments, segments.size() - done);
    BATON_ASSIGN_OR_RETURN(batches.emplace_back(), make_batch(segments.subspan(done, count)));
  }
  if (batches.empty()) return ok_status();
  BATON_RETURN_IF_ERROR(cuda_status(
      cudaMemsetAsync(sums, 0, segments.size() * sizeof(Checksum), stream), "clearing checksums"));
  for (const DeviceBatch& batch : batches) {
    segments_kernel<Body>
        <<<shape.blocks, shape.threads, 0, stream>>>(batch, reinterpret_cast<uint64_t*>(sums));
    BATON_RETURN_IF_ERROR(cuda_status(cudaGetLastError(), "launching a kernel"));
    sums += batch.count;
  }
  return ok_status();
}

}  // namespace

Status cuda_status(int error, const std::string& what) {
  if (error == cudaSuccess) return ok_status();
  const bool absent = error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice ||
                      error == cudaErrorStubLibrary || error == cudaErrorSystemDriverMismatch;
  return {absent ? Code::kUnavailable : Code::kInternal,
          what + ": " + cudaGetErrorString(static_cast<cudaError_t>(error)), error};
}

Status cuda_usable() {
  int devices = 0;
  BATON_RETURN_IF_ERROR(cuda_status(cudaGetDeviceCount(&devices), "looking for a GPU"));
  return devices > 0 ? ok_status() : Status(Code::kUnavailable, "no GPU");
}

Status launch_gather(std::span<const LaunchSegment> segments, Checksum* sums, LaunchShape shape,
                     CudaStream stream) {
  return launch<GatherBody>(segments, sums, shape, stream);
}

Status launch_scatter(std::span<const LaunchSegment> segments, Checksum* sums, LaunchShape shape,
                      CudaStream stream) {
  return launch<ScatterBody>(segments, sums, shape, stream);
}

}  // namespace baton
