// What the tests of the S3 tier share: a bucket of their own, tiers on it, chunks with bytes that
// tell where they belong, and slots that hold poison before a read.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/transfer/loop.h"
#include "tests/transfer/tiers/s3/lab.h"
#include "transfer/base/metrics.h"
#include "transfer/tiers/s3/object_format.h"
#include "transfer/tiers/s3/s3_tier.h"

namespace baton::s3 {

#ifdef BATON_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

using ::baton::testing::Json;
using ::baton::testing::Lab;
using ::baton::testing::run_until;

inline ChunkOrigin origin_of(uint8_t model, TenantId tenant = 7) {
  ChunkOrigin origin{.tenant = tenant};
  origin.fingerprint.fill(model);
  return origin;
}

inline ChunkId id_of(uint32_t number, uint16_t kv_group = 0, uint16_t head_group = 0) {
  ChunkId id{.kv_group = kv_group, .head_group = head_group};
  id.key.bytes.fill(0xab);
  for (size_t i = 0; i < 4; ++i) id.key.bytes[i] = static_cast<uint8_t>(number >> (8 * i));
  return id;
}

// What a read has told so far.
struct ReadOutcome {
  std::vector<uint32_t> layers;
  std::optional<Result<Chunk>> end;
  SlotRef slot;
  std::unique_ptr<Tier::Read> read;

  Code code() const { return end ? end->status().code() : Code::kInternal; }
};

class S3Fixture : public ::testing::Test {
 protected:
  static constexpr uint32_t kLayers = 5;
  static constexpr size_t kLayerBytes = 30000;  // no multiple of anything
  static constexpr std::byte kPoison{0xa5};

  void SetUp() override;
  void TearDown() override;

  // Of a tier before which the proxy stands.
  S3Config config(const std::string& endpoint = "", const std::string& more = "") const;
  std::unique_ptr<Tier> open(const S3Config& config);
  // Closes what open() has made, in time.
  void close(std::unique_ptr<Tier> tier);

  SlotRef slot();
  Chunk chunk(uint32_t number, ChunkOrigin origin = origin_of(1), uint32_t layers = kLayers,
              size_t layer_bytes = kLayerBytes);
  Status store(Tier& tier, Chunk chunk, Duration within = baton::testing::kPatience);
  std::unique_ptr<ReadOutcome> begin_read(Tier& tier, const Chunk& like,
                                          Duration within = baton::testing::kPatience);
  // Runs the loop until it has ended.
  std::unique_ptr<ReadOutcome> read(Tier& tier, const Chunk& like,
                                    Duration within = baton::testing::kPatience);
  std::vector<bool> find(Tier& tier, std::vector<ChunkId> ids, ChunkOrigin origin = origin_of(1),
                         Duration within = baton::testing::kPatience);
  Status erase(Tier& tier, std::vector<ChunkId> ids, ChunkOrigin origin = origin_of(1));
  Result<ChunkCount> clear(Tier& tier, ChunkFilter filter, bool dry_run = false);

  // Whether it was served whole, as it was stored, and nothing beside it.
  static void expect_served(const ReadOutcome& outcome, const Chunk& stored);
  // Whether nobody can still write into any slot.
  bool no_writers() const { return pool_->quarantined_bytes() == 0; }
  std::string name_of(const Chunk& chunk) const {
    return object_name("kv", chunk.origin, chunk.id);
  }
  std::vector<std::string> listed();
  // Of the metric with exactly this name and these labels; 0 where there is none.
  double metric(const std::string& name) const;
  // How many requests of that method the proxy has seen.
  size_t seen(const std::string& method);

  boost::asio::io_context io_;
  Metrics metrics_;
  std::string bucket_;
  std::shared_ptr<SlotPool> pool_;
};

}  // namespace baton::s3
