// Where the S3 tier's bucket is, how it is asked, and its bounds.
//
// Plain values, externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "scheduler/breaker.h"
#include "transfer/base/clock.h"
#include "transfer/base/status.h"

namespace baton::s3 {

// Where the bucket's name stands: http://host/bucket/name, or http://bucket.host/name.
enum class UrlStyle : uint8_t { kPath, kVirtualHost };

struct S3Config {
  // What the URL says.
  std::string bucket;
  std::string prefix;    // before every object's name; no slash at its ends; may be empty
  std::string endpoint;  // "https://host[:port]", without a path
  std::string region = "us-east-1";  // goes into signatures
  UrlStyle style = UrlStyle::kPath;
  std::string ca_file;  // authorities that https endpoints are verified with; empty: the system's
  std::string profile;  // of the credentials file; empty: as the environment says
  uint32_t connections = 16;  // 1 to 256

  // Of the connections stores use this share at most, so that no read waits for one.
  double store_share = 0.5;
  // Chunks under way or waiting; beyond these a call is refused.
  uint32_t max_stores = 64;
  uint32_t max_reads = 64;
  // Chunks asked for at once; those beyond are told to be absent.
  uint32_t max_lookups = 4096;
  // Chunks that wait to be erased, and calls of clear.
  uint32_t max_erases = 4096;
  uint32_t max_clears = 4;

  // After layer 0 a chunk's layers are asked for in ranges of about this many bytes.
  size_t range_bytes = 4u << 20;

  // How often one request is tried, the first time included, within its deadline. Between two tries
  // lies a pause that doubles from `first_pause` to `max_pause`, a random half of it left out.
  uint32_t tries = 6;
  Duration first_pause = std::chrono::milliseconds(50);
  Duration max_pause = std::chrono::seconds(2);
  // A try in which nothing moves for this long is given up.
  Duration stall = std::chrono::seconds(3);
  Duration connect = std::chrono::seconds(2);
  // Of requests that no caller has a deadline for: erase, and each of those that clear makes.
  Duration own_deadline = std::chrono::seconds(30);

  // Objects of one page of a listing, 1 to 1,000.
  uint32_t page_objects = 1000;

  // At most this share of GETs is asked a second time where nothing comes; 0: none.
  double hedge_share = 0.05;
  // No hedge sooner than this, whatever the percentile says.
  Duration min_hedge = std::chrono::milliseconds(10);

  // What was seen is believed for this long, of this many chunks.
  Duration held_ttl = std::chrono::minutes(10);
  Duration absent_ttl = std::chrono::seconds(5);
  size_t known_chunks = 1u << 18;

  // Tries that failed, in a row, until the service is not asked for a while.
  scheduler::Breaker::Config breaker = {.failures = 10};
};

// "s3://bucket[/prefix][?endpoint=…&region=…&style=path|virtual&ca=…&profile=…&connections=…]".
// Without an endpoint it is Amazon's of the region. Without a style it is virtual for hosts of
// amazonaws.com, cwobject.com and cwlota.com, which want that, and path for all others.
// kInvalidArgument naming the value and what was expected; what looks like a secret is not quoted.
Result<S3Config> parse_s3_url(std::string_view url);

// The same for bounds that were set by hand.
Status validate(const S3Config& config);

}  // namespace baton::s3
