// What tests that need a GPU share: skipped where there is none, and an engine's memory on it.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <utility>

#include "kernels/cuda.h"
#include "transfer/cuda/cuda_memory.h"
#include "transfer/node.h"

#define ASSERT_CUDA(call)                                       \
  do {                                                          \
    const cudaError_t error = (call);                           \
    ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error); \
  } while (false)

namespace baton::gpu {

// Ends the test where there is no GPU; anything else that is wrong with CUDA fails it.
#define BATON_NEEDS_GPU()                                                 \
  do {                                                                    \
    const ::baton::Status usable = ::baton::cuda_usable();                \
    if (!usable.ok()) {                                                   \
      ASSERT_EQ(usable.code(), Code::kUnavailable) << usable.to_string(); \
      std::puts("skipped: no GPU");                                       \
      GTEST_SKIP() << usable.to_string();                                 \
    }                                                                     \
  } while (false)

// A copy on the GPU of memory that a test fills and looks at on the host.
class Mirror {
 public:
  Mirror(std::byte* host, size_t bytes) : host_(host), bytes_(bytes) {
    Result<cuda::DeviceMemory> made = cuda::device_memory(bytes);
    EXPECT_TRUE(made.ok()) << made.status().to_string();
    if (made.ok()) device_ = std::move(made).value();
    upload();
  }
  std::byte* device() const { return device_.get(); }
  // The same place on the GPU.
  std::byte* on_device(const std::byte* host) const { return device() + (host - host_); }
  void upload() { copy(device(), host_, cudaMemcpyHostToDevice); }
  void download() { copy(host_, device(), cudaMemcpyDeviceToHost); }

 private:
  void copy(void* to, const void* from, cudaMemcpyKind kind) {
    cudaError_t error = cudaMemcpy(to, from, bytes_, kind);
    // From memory that is not pinned it may return before it has arrived.
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
    EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error);
  }

  std::byte* const host_;
  const size_t bytes_;
  cuda::DeviceMemory device_;
};

}  // namespace baton::gpu
