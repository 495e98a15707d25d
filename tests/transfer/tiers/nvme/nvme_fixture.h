// A tier on files of its own, and chunks whose every byte says which chunk and version it is of.
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
#include "transfer/base/metrics.h"
#include "transfer/tiers/nvme/nvme_tier.h"
#include "transfer/tiers/nvme/slab_device.h"

namespace baton::testing {

inline constexpr std::byte kPoison{0xab};

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

inline std::shared_ptr<SlotPool> make_pool(size_t slots, size_t slot_bytes) {
  auto arena = Arena::create({.bytes = slots * slot_bytes});
  EXPECT_TRUE(arena.ok()) << arena.status().to_string();
  auto pool = SlotPool::create(std::move(arena).value(), slot_bytes);
  EXPECT_TRUE(pool.ok()) << pool.status().to_string();
  return std::move(pool).value();
}

struct ChunkShape {
  uint32_t layers = 4;
  size_t segment_bytes = 8192;
};

inline ChunkId nvme_id(uint32_t number, uint16_t head_group = 0) {
  ChunkId id{.kv_group = 0, .head_group = head_group};
  std::memcpy(id.key.bytes.data(), &number, sizeof number);
  id.key.bytes[31] = 0x77;
  return id;
}

// What layer `layer` of that chunk holds.
inline void fill_segment(const ChunkId& id, uint32_t version, uint32_t layer, std::byte* to,
                         size_t bytes) {
  uint64_t state = std::hash<ChunkId>()(id) * 0x9e3779b97f4a7c15ull +
                   (uint64_t{version} << 32 | layer) + id.head_group;
  for (size_t at = 0; at < bytes; at += sizeof state) {
    state = (state ^ (state >> 29)) * 0xbf58476d1ce4e5b9ull + 0x94d049bb133111ebull;
    std::memcpy(to + at, &state, std::min(sizeof state, bytes - at));
  }
}

// `version` stands in `tokens`, so that old bytes under a new header are seen.
inline Chunk make_chunk(SlotRef slot, const ChunkId& id, const ChunkShape& shape,
                        uint32_t version = 1, const ChunkOrigin& origin = {}) {
  Chunk chunk{.id = id,
              .tokens = version,
              .order = PayloadOrder::kHeadToken,
              .segment_bytes = shape.segment_bytes,
              .slot = std::move(slot),
              .origin = origin};
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    std::byte* const at = chunk.slot.bytes().data() + layer * shape.segment_bytes;
    fill_segment(id, version, layer, at, shape.segment_bytes);
    chunk.checksums.push_back(
        checksum(segment_seed(id, layer, shape.segment_bytes), at, shape.segment_bytes));
  }
  return chunk;
}

// "" where the slot holds just that, and poison after it.
inline std::string difference(const Chunk& chunk, const ChunkId& id, const ChunkShape& shape) {
  if (chunk.id != id) return "another id";
  if (chunk.checksums.size() != shape.layers) return "another number of layers";
  if (chunk.segment_bytes != shape.segment_bytes) return "another size";
  std::vector<std::byte> expected(shape.segment_bytes);
  const std::span<std::byte> slot = chunk.slot.bytes();
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    fill_segment(id, chunk.tokens, layer, expected.data(), expected.size());
    if (std::memcmp(slot.data() + layer * shape.segment_bytes, expected.data(), expected.size()))
      return "layer " + std::to_string(layer) + " differs";
  }
  const auto rest = slot.subspan(shape.layers * shape.segment_bytes);
  if (!std::all_of(rest.begin(), rest.end(), [](std::byte each) { return each == kPoison; }))
    return "bytes after the last layer were written";
  return "";
}

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
            .fingerprint = {},
            .deadline = soon()};
  }
  SlotRef poisoned() {
    SlotRef slot = *pool_->allocate();
    std::fill(slot.bytes().begin(), slot.bytes().end(), kPoison);
    return slot;
  }
  Result<Chunk> read(TierReadRequest request) {
    std::optional<Result<Chunk>> end;
    std::vector<uint32_t> layers;
    const auto handle = tier_->read(
        std::move(request), [&](uint32_t layer) { layers.push_back(layer); },
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
    tier_->erase(std::move(ids), [&](const Status& status) { end = status; });
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
