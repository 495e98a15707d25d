// A tier on files of its own.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/fakes/faulty_disk.h"
#include "tests/transfer/loop.h"
#include "tests/transfer/tiers/nvme/nvme_chunks.h"
#include "transfer/base/metrics.h"
#include "transfer/tiers/nvme/nvme_tier.h"
#include "transfer/tiers/nvme/slab_device.h"

namespace baton::testing {

// A folder that goes with the test.
class TestFolder {
 public:
  TestFolder() {
    std::string name = std::filesystem::temp_directory_path() / "baton-nvme-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no folder at " << name;
    path_ = name;
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

class NvmeTest : public ::testing::Test {
 protected:
  static constexpr size_t kSlotBytes = 32768;

  ~NvmeTest() override {
    if (faults_) faults_->release();
    close();
  }

  NvmeConfig config(uint32_t slabs = 8, uint64_t slab_bytes = kSlotBytes,
                    const char* name = "device") const {
    const uint64_t bytes = nvme::SlabLayout{slab_bytes, slabs}.bytes();
    return {.devices = {{folder_.file(name), bytes}}, .slab_bytes = slab_bytes, .depth = 8};
  }
  Result<std::unique_ptr<Tier>> try_open(const NvmeConfig& config) {
    return NvmeTier::open(io_, config, pool_, metrics_,
                          faults_ ? fakes::seams_of(faults_) : nvme::Seams{});
  }
  void open(const NvmeConfig& config) {
    auto tier = try_open(config);
    ASSERT_TRUE(tier.ok()) << tier.status().to_string();
    tier_ = std::move(tier).value();
  }
  void close() {
    if (tier_ == nullptr) return;
    bool closed = false;
    tier_->close(now() + std::chrono::seconds(5), [&] { closed = true; });
    ASSERT_TRUE(run_until(io_, [&] { return closed; }));
    tier_.reset();
  }
  void reopen(const NvmeConfig& config) {
    close();
    open(config);
  }

  static TimePoint soon() { return now() + kPatience; }

  Status store(Chunk chunk, std::optional<TimePoint> deadline = std::nullopt) {
    std::optional<Status> end;
    tier_->store(std::move(chunk), deadline.value_or(soon()),
                 [&](const Status& status) { end = status; });
    EXPECT_FALSE(end) << "told inside the call";
    EXPECT_TRUE(run_until(io_, [&] { return end.has_value(); }));
    return end.value_or(Status(Code::kInternal, "never ended"));
  }
  Status store(uint32_t number, uint32_t version = 1, const ChunkOrigin& origin = {}) {
    return store(make_chunk(*pool_->allocate(), nvme_id(number), shape_, version, origin));
  }
  TierReadRequest request(const ChunkId& id, SlotRef into) const {
    return {.id = id,
            .into = std::move(into),
            .layers = shape_.layers,
            .segment_bytes = shape_.segment_bytes,
            .origin = {},
            .deadline = soon()};
  }
  SlotRef poisoned() { return poisoned_slot(*pool_); }
  Result<Chunk> read(TierReadRequest request) {
    std::optional<Result<Chunk>> end;
    std::vector<uint32_t> layers;
    const auto handle = tier_->read(
        std::move(request), [&](const Chunk&, uint32_t layer) { layers.push_back(layer); },
        [&](Result<Chunk> chunk) { end = std::move(chunk); });
    EXPECT_FALSE(end) << "told inside the call";
    EXPECT_TRUE(run_until(io_, [&] { return end.has_value(); }));
    layers_ = std::move(layers);
    if (!end) return Status(Code::kInternal, "never ended");
    return *std::move(end);
  }
  Result<Chunk> read(uint32_t number) { return read(request(nvme_id(number), poisoned())); }
  // "" where the chunk is read as it was stored; else why not, or what differs.
  std::string reads_back(uint32_t number, uint32_t version = 1) {
    const auto chunk = read(number);
    if (!chunk.ok()) return chunk.status().to_string();
    if (chunk->tokens != version) return "version " + std::to_string(chunk->tokens);
    return difference(*chunk, nvme_id(number), shape_);
  }
  Status erase(std::vector<ChunkId> ids) {
    std::optional<Status> end;
    tier_->erase({}, std::move(ids), [&](const Status& status) { end = status; });
    EXPECT_FALSE(end) << "told inside the call";
    EXPECT_TRUE(run_until(io_, [&] { return end.has_value(); }));
    return end.value_or(Status(Code::kInternal, "never ended"));
  }
  Result<ChunkCount> clear(const ChunkFilter& filter, bool dry_run = false) {
    std::optional<Result<ChunkCount>> end;
    tier_->clear(filter, dry_run, [&](Result<ChunkCount> count) { end = std::move(count); });
    EXPECT_FALSE(end) << "told inside the call";
    EXPECT_TRUE(run_until(io_, [&] { return end.has_value(); }));
    if (!end) return Status(Code::kInternal, "never ended");
    return *std::move(end);
  }
  bool held(uint32_t number) const {
    return tier_->presence(nvme_id(number)) == Tier::Presence::kHeld;
  }
  uint64_t chunks() const { return tier_->report().held.chunks; }
  size_t free_slots() const { return pool_->counts().free; }
  double metric(const std::string& line) const {
    const std::string text = "\n" + metrics_.text();
    const size_t at = text.find("\n" + line + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + line.size() + 2));
  }

  TestFolder folder_;
  boost::asio::io_context io_;
  Metrics metrics_;
  std::shared_ptr<SlotPool> pool_ = make_pool(32, kSlotBytes);
  ChunkShape shape_;
  std::shared_ptr<fakes::DiskFaults> faults_;  // set before open(): every disk is faulty
  std::unique_ptr<Tier> tier_;
  std::vector<uint32_t> layers_;  // that the last read told of
};

}  // namespace baton::testing
