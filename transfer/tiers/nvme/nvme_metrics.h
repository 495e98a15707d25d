// What the NVMe tier counts, in the names that every tier has ("baton_tier_…", tier="nvme").
// Thread-safe (prometheus-cpp).
#pragma once

#include <cstdint>
#include <string>

#include "transfer/base/metrics.h"
#include "transfer/base/status.h"
#include "transfer/tiers/tier.h"

namespace baton::nvme {

class NvmeMetrics {
 public:
  explicit NvmeMetrics(Metrics& registry);

  void lookup(bool hit) { (hit ? hits_ : misses_).Increment(); }
  void evicted() { evictions_.Increment(); }
  void stored(uint64_t bytes) { stored_bytes_.Increment(static_cast<double>(bytes)); }
  void read(uint64_t bytes) { read_bytes_.Increment(static_cast<double>(bytes)); }
  // By the code's name: "ok", "exists", "resource_exhausted", …
  void store_ended(Code end);
  void read_ended(Code end);
  // "no_space", "io", or "timeout": what was given to the device and did not come back in time.
  void device_error(const char* kind);
  void checksum_failure() { checksum_failures_.Increment(); }
  // A segment that is no whole number of blocks, or lies where direct I/O does not reach.
  void copied_unaligned(uint64_t bytes) { unaligned_bytes_.Increment(static_cast<double>(bytes)); }
  void set_held(const ChunkCount& held, uint64_t capacity_bytes);
  // `of`: "store" or "read".
  void set_breaker(const std::string& device, const char* of, bool open);

 private:
  prometheus::Counter& ended(const char* name, Code end);

  Metrics& registry_;
  prometheus::Counter& hits_;
  prometheus::Counter& misses_;
  prometheus::Counter& evictions_;
  prometheus::Counter& stored_bytes_;
  prometheus::Counter& read_bytes_;
  prometheus::Counter& checksum_failures_;
  prometheus::Counter& unaligned_bytes_;
  prometheus::Gauge& bytes_;
  prometheus::Gauge& chunks_;
  prometheus::Gauge& capacity_;
};

}  // namespace baton::nvme
