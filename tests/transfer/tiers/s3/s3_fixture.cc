#include "tests/transfer/tiers/s3/s3_fixture.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstring>

namespace baton::s3 {
namespace {

constexpr size_t kSlotBytes = 256 << 10;
constexpr size_t kSlots = 96;

}  // namespace

void S3Fixture::SetUp() {
  Lab& lab = Lab::get();
  if (!lab.missing().empty()) GTEST_SKIP() << "skipped: not installed: " << lab.missing();
  ::setenv("AWS_ACCESS_KEY_ID", lab.text("access").c_str(), 1);
  ::setenv("AWS_SECRET_ACCESS_KEY", lab.text("secret").c_str(), 1);
  ::unsetenv("AWS_SESSION_TOKEN");
  ::unsetenv("AWS_PROFILE");
  static int number = 0;
  bucket_ = "bucket-" + std::to_string(++number);
  lab.call("make_bucket", {{"bucket", bucket_}});
  lab.rules(Json::array());
  auto arena = Arena::create({.bytes = kSlots * kSlotBytes});
  ASSERT_TRUE(arena.ok());
  auto pool = SlotPool::create(std::move(arena).value(), kSlotBytes);
  ASSERT_TRUE(pool.ok());
  pool_ = std::move(pool).value();
}

void S3Fixture::TearDown() {
  if (pool_ == nullptr) return;
  EXPECT_TRUE(no_writers());
  EXPECT_EQ(pool_->counts().held, 0u);
}

S3Config S3Fixture::config(const std::string& endpoint, const std::string& more) const {
  const std::string at = endpoint.empty() ? Lab::get().proxy() : endpoint;
  auto parsed = parse_s3_url("s3://" + bucket_ + "/kv?endpoint=" + at + more);
  EXPECT_TRUE(parsed.ok()) << parsed.status().to_string();
  parsed->hedge_share = 0;  // where it is not what is tested
  return *parsed;
}

std::unique_ptr<Tier> S3Fixture::open(const S3Config& config) {
  auto tier = S3Tier::open(io_, config, metrics_);
  EXPECT_TRUE(tier.ok()) << tier.status().to_string();
  return std::move(*tier);
}

void S3Fixture::close(std::unique_ptr<Tier> tier) {
  bool closed = false;
  tier->close(now() + baton::testing::kPatience, [&] { closed = true; });
  EXPECT_FALSE(closed);
  EXPECT_TRUE(run_until(io_, [&] { return closed; }));
}

SlotRef S3Fixture::slot() {
  auto slot = pool_->allocate();
  EXPECT_TRUE(slot.has_value());
  std::memset(slot->bytes().data(), std::to_integer<int>(kPoison), slot->bytes().size());
  return *slot;
}

Chunk S3Fixture::chunk(uint32_t number, ChunkOrigin origin, uint32_t layers, size_t layer_bytes) {
  Chunk chunk{.id = id_of(number, 1, 2),
              .tokens = 256,
              .order = PayloadOrder::kHeadToken,
              .segment_bytes = layer_bytes,
              .slot = slot(),
              .origin = origin};
  std::vector<uint64_t> words((layers * layer_bytes + 7) / 8);
  uint64_t state = number + 1;
  for (uint64_t& word : words) word = state = state * 6364136223846793005u + 1442695040888963407u;
  std::memcpy(chunk.slot.bytes().data(), words.data(), layers * layer_bytes);
  for (uint32_t layer = 0; layer < layers; ++layer) {
    chunk.checksums.push_back(checksum(seed_of(chunk.id, layer, layer_bytes),
                                       chunk.slot.bytes().data() + layer * layer_bytes,
                                       layer_bytes));
  }
  return chunk;
}

Status S3Fixture::store(Tier& tier, Chunk chunk, Duration within) {
  std::optional<Status> how;
  tier.store(std::move(chunk), now() + within, [&](const Status& status) { how = status; });
  EXPECT_FALSE(how.has_value());
  EXPECT_TRUE(run_until(io_, [&] { return how.has_value(); }));
  return how.value_or(Status(Code::kInternal, "no callback"));
}

std::unique_ptr<ReadOutcome> S3Fixture::begin_read(Tier& tier, const Chunk& like, Duration within) {
  auto outcome = std::make_unique<ReadOutcome>();
  outcome->slot = slot();
  outcome->read = tier.read(
      {.id = like.id,
       .into = outcome->slot,
       .layers = static_cast<uint32_t>(like.checksums.size()),
       .segment_bytes = like.segment_bytes,
       .origin = like.origin,
       .deadline = now() + within},
      [it = outcome.get(), like](const Chunk& chunk, uint32_t layer) {
        EXPECT_EQ(chunk.checksums, like.checksums);
        EXPECT_EQ(
            std::memcmp(it->slot.bytes().data() + layer * like.segment_bytes,
                        like.slot.bytes().data() + layer * like.segment_bytes, like.segment_bytes),
            0)
            << "layer " << layer;
        EXPECT_FALSE(it->end.has_value());
        it->layers.push_back(layer);
      },
      [it = outcome.get()](Result<Chunk> end) {
        EXPECT_FALSE(it->end.has_value());
        it->end.emplace(std::move(end));
      });
  EXPECT_FALSE(outcome->end.has_value());
  return outcome;
}

std::unique_ptr<ReadOutcome> S3Fixture::read(Tier& tier, const Chunk& like, Duration within) {
  auto outcome = begin_read(tier, like, within);
  EXPECT_TRUE(run_until(io_, [&] { return outcome->end.has_value(); }));
  return outcome;
}

std::vector<bool> S3Fixture::find(Tier& tier, std::vector<ChunkId> ids, ChunkOrigin origin,
                                  Duration within) {
  std::optional<std::vector<bool>> present;
  tier.find(origin, std::move(ids), now() + within,
            [&](std::vector<bool> found) { present = std::move(found); });
  EXPECT_FALSE(present.has_value());
  EXPECT_TRUE(run_until(io_, [&] { return present.has_value(); }));
  return present.value_or(std::vector<bool>());
}

Status S3Fixture::erase(Tier& tier, std::vector<ChunkId> ids, ChunkOrigin origin) {
  std::optional<Status> how;
  tier.erase(origin, std::move(ids), [&](const Status& status) { how = status; });
  EXPECT_FALSE(how.has_value());
  EXPECT_TRUE(run_until(io_, [&] { return how.has_value(); }));
  return how.value_or(Status(Code::kInternal, "no callback"));
}

Result<ChunkCount> S3Fixture::clear(Tier& tier, ChunkFilter filter, bool dry_run) {
  std::optional<Result<ChunkCount>> count;
  tier.clear(filter, dry_run,
             [&](Result<ChunkCount> counted) { count.emplace(std::move(counted)); });
  EXPECT_FALSE(count.has_value());
  EXPECT_TRUE(run_until(io_, [&] { return count.has_value(); }));
  return count.value_or(Status(Code::kInternal, "no callback"));
}

void S3Fixture::expect_served(const ReadOutcome& outcome, const Chunk& stored) {
  ASSERT_TRUE(outcome.end.has_value());
  ASSERT_TRUE(outcome.end->ok()) << outcome.end->status().to_string();
  const Chunk& got = **outcome.end;
  EXPECT_EQ(got.id, stored.id);
  EXPECT_EQ(got.origin, stored.origin);
  EXPECT_EQ(got.tokens, stored.tokens);
  EXPECT_EQ(got.order, stored.order);
  EXPECT_EQ(got.segment_bytes, stored.segment_bytes);
  EXPECT_EQ(got.checksums, stored.checksums);
  EXPECT_EQ(got.slot.id(), outcome.slot.id());
  std::vector<uint32_t> layers = outcome.layers;
  std::sort(layers.begin(), layers.end());
  std::vector<uint32_t> each(stored.checksums.size());
  for (uint32_t layer = 0; layer < each.size(); ++layer) each[layer] = layer;
  EXPECT_EQ(layers, each);
  const size_t bytes = stored.segment_bytes * stored.checksums.size();
  EXPECT_EQ(std::memcmp(got.slot.bytes().data(), stored.slot.bytes().data(), bytes), 0);
  for (const std::byte byte : got.slot.bytes().subspan(bytes)) ASSERT_EQ(byte, kPoison);
}

std::vector<std::string> S3Fixture::listed() {
  std::vector<std::string> names;
  const Json objects = Lab::get().call("list", {{"bucket", bucket_}});
  for (const auto& item : objects.items()) names.push_back(item.key());
  return names;
}

double S3Fixture::metric(const std::string& name) const {
  const std::string text = "\n" + metrics_.text();
  const size_t at = text.find("\n" + name + " ");
  return at == std::string::npos ? 0 : std::stod(text.substr(at + name.size() + 2));
}

size_t S3Fixture::seen(const std::string& method) {
  size_t count = 0;
  for (const Json& request : Lab::get().seen()) count += request["method"] == method;
  return count;
}

}  // namespace baton::s3
