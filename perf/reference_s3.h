// Whole objects by libcurl and nothing else, so many connections at a time: what the S3 tier is
// measured against. Signed; PUT out of memory, GET thrown away.
//
// Externally synchronised; runs in its calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "transfer/base/status.h"
#include "transfer/tiers/s3/s3_config.h"

namespace baton::bench {

class PlainS3 {
 public:
  // Credentials as the tier's.
  static Result<std::unique_ptr<PlainS3>> create(const s3::S3Config& where, uint32_t connections);
  ~PlainS3();

  // Seconds for objects [0, count), each PUT with these bytes, or GET whole. kUnavailable with what
  // the service said, where one fails or has another length.
  Result<double> put(uint32_t count, std::span<const std::byte> bytes);
  Result<double> get(uint32_t count, uint64_t bytes);
  // A GET of the first byte of object 0, on a connection that is there.
  Result<double> round_trip();

 private:
  struct State;
  explicit PlainS3(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace baton::bench
