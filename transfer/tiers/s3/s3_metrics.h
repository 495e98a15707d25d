// What the S3 tier counts, under the names that tiers share.
//
// Thread-safe.
#pragma once

#include "transfer/base/metrics.h"
#include "transfer/tiers/s3/http_call.h"

namespace baton::s3 {

class S3Metrics {
 public:
  explicit S3Metrics(Metrics& metrics);

  // `status`: of HTTP; 0 where no answer came.
  void request(HttpMethod method, int status);
  void rejected(const char* what);  // "store", "read", "lookup", "erase", "clear"

  prometheus::Counter& hits;
  prometheus::Counter& misses;
  prometheus::Counter& stored_bytes;  // of payload
  prometheus::Counter& read_bytes;    // of payload, verified
  prometheus::Counter& retries;
  prometheus::Counter& hedges;
  prometheus::Counter& hedges_won;
  prometheus::Counter& checksum_failures;
  prometheus::Gauge& available;
  prometheus::Gauge& stores;
  prometheus::Gauge& reads;

 private:
  Metrics& metrics_;
};

}  // namespace baton::s3
