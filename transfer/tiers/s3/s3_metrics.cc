#include "transfer/tiers/s3/s3_metrics.h"

#include <string>

namespace baton::s3 {
namespace {

Metrics::Labels s3_labels(Metrics::Labels more = {}) {
  more["tier"] = "s3";
  return more;
}

prometheus::Counter& s3_counter(Metrics& metrics, const char* name, const char* help,
                                Metrics::Labels more = {}) {
  return metrics.counter(name, help, s3_labels(std::move(more)));
}

prometheus::Counter& s3_lookups(Metrics& metrics, const char* result) {
  return s3_counter(metrics, "baton_tier_lookups_total", "Chunks looked up in a tier.",
                    {{"result", result}});
}

}  // namespace

S3Metrics::S3Metrics(Metrics& metrics)
    : hits(s3_lookups(metrics, "hit")),
      misses(s3_lookups(metrics, "miss")),
      stored_bytes(s3_counter(metrics, "baton_tier_stored_bytes_total",
                              "Payload bytes of chunks that a tier has taken.")),
      read_bytes(s3_counter(metrics, "baton_tier_read_bytes_total",
                            "Payload bytes that a tier has given back, verified.")),
      retries(s3_counter(metrics, "baton_tier_retries_total",
                         "Requests to a tier's service that were tried again.")),
      hedges(s3_counter(metrics, "baton_tier_hedges_total",
                        "Silent requests to a tier's service that were asked a second time.")),
      hedges_won(s3_counter(metrics, "baton_tier_hedges_won_total",
                            "Of these, those whose second answer came first.")),
      checksum_failures(metrics.counter("baton_checksum_failures_total",
                                        "Segments whose bytes did not verify.", {{"where", "s3"}})),
      available(metrics.gauge("baton_tier_available",
                              "Whether a tier is being asked: its breaker is not open.",
                              s3_labels())),
      stores(metrics.gauge("baton_tier_stores", "Stores under way or waiting.", s3_labels())),
      reads(metrics.gauge("baton_tier_reads", "Reads under way or waiting.", s3_labels())),
      metrics_(metrics) {
  available.Set(1);
  for (const char* what : {"store", "read", "lookup", "erase", "clear"}) {
    s3_counter(metrics, "baton_tier_rejected_total", "Calls refused at once.", {{"what", what}});
  }
}

void S3Metrics::request(HttpMethod method, int status) {
  const std::string kind = status == 0 ? "none" : std::to_string(status / 100) + "xx";
  s3_counter(metrics_, "baton_tier_requests_total",
             "Requests to a tier's service, each try, by the kind of answer.",
             {{"method", method_name(method)}, {"status", kind}})
      .Increment();
}

void S3Metrics::rejected(const char* what) {
  s3_counter(metrics_, "baton_tier_rejected_total", "Calls refused at once.", {{"what", what}})
      .Increment();
}

}  // namespace baton::s3
