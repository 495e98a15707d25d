// Options of the NVMe tier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/breaker.h"
#include "transfer/base/clock.h"
#include "transfer/base/status.h"

namespace baton {

struct NvmeDevice {
  std::string path;    // a file, preallocated at the first start, or a block device
  uint64_t bytes = 0;  // of it: headers and chunks

  // "PATH:SIZE", the size as "200GiB", "512MiB", "1TiB" or plain bytes. kInvalidArgument.
  static Result<NvmeDevice> parse(std::string_view text);
};

struct NvmeConfig {
  std::vector<NvmeDevice> devices;  // at least one; a chunk lies on one of them
  // Room for one chunk, a multiple of 4 KiB: slab_bytes_for(). Written into the format: a device
  // formatted with another size is refused.
  uint64_t slab_bytes = 0;

  // Of each device. Reads and writes that the device is given at a time, 1 to 4096.
  uint32_t depth = 32;
  // Layers smaller than this are read and written together. A larger one is read whole.
  uint32_t io_bytes = 1u << 20;
  // Chunks being stored and read, waiting ones included, and the bytes of slots that stores hold;
  // beyond it a call is refused at once. 1 to 65,535.
  uint32_t max_stores = 64;
  uint32_t max_reads = 256;
  uint64_t max_store_bytes = uint64_t{1} << 30;
  // How long an erase or clear may take until it is told to have failed. What it named is found by
  // nobody from its beginning on.
  Duration erase_deadline = std::chrono::seconds(30);
  // One for a device's stores and one for its reads.
  scheduler::Breaker::Config breaker;

  // Whether a store ends only when a loss of power would not undo it: two flushes of the device for
  // each. Without it a loss of power may lose chunks; it never makes a wrong one (README.md).
  bool flush_stores = false;
  // How long the start waits for a predecessor to let go of a device.
  Duration lock_patience = std::chrono::seconds(2);
};

// What a slab needs for `layers` layers: each begins at a whole block.
uint64_t slab_bytes_for(uint32_t layers, uint64_t segment_bytes);

// kInvalidArgument naming the option.
Status validate(const NvmeConfig& config);

}  // namespace baton
