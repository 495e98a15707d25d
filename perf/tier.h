// What `baton bench tier` asks of each tier; one file a tier or more.
#pragma once

#include <cstdint>
#include <string>

#include "perf/bench.h"

namespace baton::bench {

struct TierOptions {
  std::string bytes = "256MiB";
  std::string block_bytes = "64KiB";
  std::string segment_bytes = "1MiB";
  uint32_t layers = 32;
  uint32_t chunks = 0;  // 0: as many as the tier's question asks of by itself
  uint32_t tokens = 131'072;
  uint32_t chunk_tokens = 256;
  std::string folder;
  std::string io_bytes = "1MiB";
  uint32_t depth = 32;
  std::string url;
  std::string connections = "4,16";
};

// How fast does a prompt that the host tier holds come into the engine's blocks?
Status measure_host_hit(Run& run, const TierOptions& options);
// How long does it take to find a prompt's chunks among all that the host tier holds?
Status measure_host_lookup(Run& run, const TierOptions& options);
// How fast are chunks stored on NVMe, and read back and verified?
Status measure_nvme(Run& run, const TierOptions& options);
// How fast are chunks put to S3, and got back and verified, and how soon is a layer there?
Status measure_s3(Run& run, const TierOptions& options);

}  // namespace baton::bench
