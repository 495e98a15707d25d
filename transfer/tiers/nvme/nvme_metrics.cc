#include "transfer/tiers/nvme/nvme_metrics.h"

namespace baton::nvme {
namespace {

const Metrics::Labels kNvme = {{"tier", "nvme"}};

prometheus::Counter& lookups_of(Metrics& registry, const char* result) {
  return registry.counter("baton_tier_lookups_total", "Chunks looked up in a tier.",
                          {{"tier", "nvme"}, {"result", result}});
}

}  // namespace

NvmeMetrics::NvmeMetrics(Metrics& registry)
    : registry_(registry),
      hits_(lookups_of(registry, "hit")),
      misses_(lookups_of(registry, "miss")),
      evictions_(registry.counter("baton_tier_evictions_total",
                                  "Chunks that left a tier to make room.", kNvme)),
      stored_bytes_(registry.counter("baton_tier_stored_bytes_total",
                                     "Payload bytes of chunks stored in a tier.", kNvme)),
      read_bytes_(registry.counter("baton_tier_read_bytes_total",
                                   "Payload bytes read from a tier and verified.", kNvme)),
      checksum_failures_(registry.counter("baton_checksum_failures_total",
                                          "Segments whose bytes did not verify.",
                                          {{"where", "nvme"}})),
      unaligned_bytes_(registry.counter("baton_copied_bytes_total",
                                        "Payload bytes copied by this node's CPU or GPU.",
                                        {{"why", "nvme_unaligned"}})),
      bytes_(registry.gauge("baton_tier_bytes", "Bytes of chunks held in a tier.", kNvme)),
      chunks_(registry.gauge("baton_tier_chunks", "Chunks held in a tier.", kNvme)),
      capacity_(registry.gauge("baton_tier_capacity_bytes",
                               "Bytes that a tier has room for; absent: no bound.", kNvme)) {
  for (const Code end : {Code::kOk, Code::kExists, Code::kResourceExhausted, Code::kUnavailable,
                         Code::kDeadlineExceeded, Code::kInternal})
    ended("baton_tier_stores_total", end);
  for (const Code end : {Code::kOk, Code::kNotFound, Code::kChecksum, Code::kResourceExhausted,
                         Code::kUnavailable, Code::kDeadlineExceeded, Code::kInternal})
    ended("baton_tier_reads_total", end);
  for (const char* kind : {"no_space", "io", "timeout"}) {
    registry_.counter("baton_tier_errors_total", "Errors of a tier's device or service.",
                      {{"tier", "nvme"}, {"kind", kind}});
  }
}

prometheus::Counter& NvmeMetrics::ended(const char* name, Code end) {
  return registry_.counter(name, "Chunks that a tier was asked to store or read, by how it ended.",
                           {{"tier", "nvme"}, {"end", code_name(end)}});
}

void NvmeMetrics::store_ended(Code end) { ended("baton_tier_stores_total", end).Increment(); }
void NvmeMetrics::read_ended(Code end) { ended("baton_tier_reads_total", end).Increment(); }

void NvmeMetrics::device_error(const char* kind) {
  registry_
      .counter("baton_tier_errors_total", "Errors of a tier's device or service.",
               {{"tier", "nvme"}, {"kind", kind}})
      .Increment();
}

void NvmeMetrics::set_held(const ChunkCount& held, uint64_t capacity_bytes) {
  bytes_.Set(static_cast<double>(held.bytes));
  chunks_.Set(static_cast<double>(held.chunks));
  capacity_.Set(static_cast<double>(capacity_bytes));
}

void NvmeMetrics::set_breaker(const std::string& device, const char* of, bool open) {
  registry_
      .gauge("baton_tier_breaker_open", "Whether a tier's device is left alone after failures.",
             {{"tier", "nvme"}, {"device", device}, {"of", of}})
      .Set(open ? 1 : 0);
}

}  // namespace baton::nvme
