// The kernels on a GPU. Present where the build found a CUDA toolkit (BATON_CUDA); with the driver
// missing every call returns kUnavailable.
//
// Calls enqueue on a stream and return; no device memory is allocated and the host never waits.
// Block lists, blocks, payloads and checksums must stay until the stream has passed the launch.
// Thread-safe.
#pragma once

#include <string>

#include "kernels/launch_batch.h"

struct CUstream_st;

namespace baton {

using CudaStream = CUstream_st*;  // cudaStream_t, without its header

// How much of the GPU a launch may take: each block keeps one SM's copy engines busy, a few fill a
// link, and the rest stays with the model.
struct LaunchShape {
  uint32_t blocks = 16;
  uint32_t threads = 512;  // of a block; a multiple of 32, at most 1,024
};

// CUDA's error (a cudaError_t) as a Status that begins with `what`: kUnavailable where no driver or
// no GPU is there, else kInternal, with the error as native().
Status cuda_status(int error, const std::string& what);

// Ok where there is a GPU and a driver for it; else kUnavailable with CUDA's reason.
Status cuda_usable();

// Gathers each segment's blocks into its payload, any number of segments (kBatchSegments in one
// launch, all in one if they fit). sums[count] is memory that the device can write (8-byte aligned)
// and holds the segments' checksums when the stream has passed. kInvalidArgument as make_batch() or
// for the shape; kUnavailable without a usable GPU; kInternal with CUDA's code as native().
Status launch_gather(std::span<const LaunchSegment> segments, Checksum* sums, LaunchShape shape,
                     CudaStream stream);

// Scatters each payload into its segment's blocks, from its first_token on; sums as above, over all
// of the payload: compare them with the senders' before anybody may read the blocks.
Status launch_scatter(std::span<const LaunchSegment> segments, Checksum* sums, LaunchShape shape,
                      CudaStream stream);

}  // namespace baton
