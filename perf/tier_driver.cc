#include "perf/tier_driver.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include "kernels/checksum.h"
#include "perf/measure.h"

namespace baton::bench {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);
constexpr uint32_t kMostSources = 8;  // slots with bytes to store; the chunks share them

uint32_t sources_of(const TierCase& c) { return std::min(c.chunks, kMostSources); }

}  // namespace

Result<std::unique_ptr<TierDriver>> TierDriver::create(const TierCase& c, const Common& common,
                                                       const Open& open) {
  std::unique_ptr<TierDriver> driver(new TierDriver(c, common));
  BATON_ASSIGN_OR_RETURN(
      auto arena,
      Arena::create({.name = "bench", .bytes = (sources_of(c) + c.window) * c.slot_bytes}));
  BATON_ASSIGN_OR_RETURN(driver->pool_, SlotPool::create(std::move(arena), c.slot_bytes));
  BATON_ASSIGN_OR_RETURN(driver->tier_, open(driver->io_, driver->pool_, driver->metrics_));
  driver->make_chunks();
  return driver;
}

TierDriver::~TierDriver() {
  if (tier_ == nullptr) return;
  reads_.clear();
  bool closed = false;
  tier_->close(now() + kPatience, [&] { closed = true; });
  if (run_until([&] { return closed; }).ok()) {
    tier_.reset();
  } else {
    // Its memory may be written to yet: it stays for the process's life.
    (void)tier_.release();
  }
}

void TierDriver::make_chunks() {
  std::mt19937_64 random(1);
  std::vector<SlotRef> slots;
  for (uint32_t i = 0; i < sources_of(case_); ++i) {
    slots.push_back(*pool_->allocate());
    const std::span<std::byte> bytes = slots.back().bytes();
    for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      const uint64_t word = random();
      std::memcpy(bytes.data() + at, &word, sizeof word);
    }
  }
  for (uint32_t i = 0; i < case_.chunks; ++i) {
    Chunk chunk{
        .tokens = 256, .segment_bytes = case_.segment_bytes, .slot = slots[i % slots.size()]};
    std::memcpy(chunk.id.key.bytes.data(), &i, sizeof i);
    for (uint32_t layer = 0; layer < case_.layers; ++layer) {
      chunk.checksums.push_back(checksum(seed_of(chunk.id, layer, case_.segment_bytes),
                                         chunk.slot.bytes().data() + layer * case_.segment_bytes,
                                         case_.segment_bytes));
    }
    chunks_.push_back(std::move(chunk));
  }
}

Status TierDriver::run_until(const std::function<bool()>& condition) {
  const TimePoint deadline = now() + 2 * kPatience;
  while (!condition()) {
    if (now() >= deadline) return Status(Code::kDeadlineExceeded, "the tier does not answer");
    io_.restart();
    io_.run_one_for(std::chrono::milliseconds(100));
  }
  return ok_status();
}

Result<double> TierDriver::timed(uint32_t turns, const Begin& begin) {
  uint32_t next = 0, ended = 0;
  Status status;
  OnEnded on_end;
  const auto fill = [&] {
    while (next < turns && next - ended < case_.window) begin(next++, on_end);
  };
  on_end = [&](const Status& end) {
    if (status.ok()) status = end;
    ++ended;
    fill();
  };
  const double began = seconds_now();
  fill();
  BATON_RETURN_IF_ERROR(run_until([&] { return ended == turns; }));
  const double seconds = seconds_now() - began;
  if (!status.ok()) return status;
  return seconds;
}

void TierDriver::store(uint32_t chunk, const OnEnded& ended) {
  tier_->store(chunks_[chunk], now() + kPatience, ended);
}

Result<double> TierDriver::store_all() {
  std::optional<Status> cleared;
  tier_->clear({}, false, [&](const Result<ChunkCount>& count) { cleared = count.status(); });
  BATON_RETURN_IF_ERROR(run_until([&] { return cleared.has_value(); }));
  BATON_RETURN_IF_ERROR(*cleared);
  return timed(case_.chunks, [this](uint32_t i, const OnEnded& ended) { store(i, ended); });
}

// What is read into is written over before.
void TierDriver::begin_reads() {
  reads_.clear();
  last_.clear();
  while (free_.size() < case_.window) free_.push_back(*pool_->allocate());
  for (const SlotRef& slot : free_) std::memset(slot.bytes().data(), 0xab, slot.bytes().size());
}

void TierDriver::read(uint32_t chunk, const OnEnded& ended) {
  if (free_.empty()) {
    // Of those that wait to be compared the oldest gives way.
    free_.push_back(std::move(last_.front().second.slot));
    last_.erase(last_.begin());
  }
  SlotRef slot = std::move(free_.back());
  free_.pop_back();
  reads_.push_back(tier_->read(
      {.id = chunks_[chunk].id,
       .into = std::move(slot),
       .layers = case_.layers,
       .segment_bytes = case_.segment_bytes,
       .deadline = now() + kPatience},
      [](const Chunk&, uint32_t) {},
      [this, chunk, ended](Result<Chunk> what) {
        if (what.ok()) last_.emplace_back(chunk, *what);
        ended(what.status());
      }));
}

Status TierDriver::compare() {
  for (auto& [index, chunk] : last_) {
    const std::byte* const expected = chunks_[index].slot.bytes().data();
    if (std::memcmp(chunk.slot.bytes().data(), expected, case_.chunk_bytes()) != 0 ||
        ++checks_ == common_.corrupt)
      return Status(Code::kChecksum,
                    "chunk " + std::to_string(index) + " is another than was stored");
    free_.push_back(std::move(chunk.slot));
  }
  last_.clear();
  return ok_status();
}

Result<double> TierDriver::read_all() {
  begin_reads();
  const auto seconds =
      timed(case_.chunks, [this](uint32_t i, const OnEnded& ended) { read(i, ended); });
  if (!seconds.ok()) return seconds;
  BATON_RETURN_IF_ERROR(compare());
  return seconds;
}

Result<double> TierDriver::both() {
  const uint32_t half = case_.chunks / 2;
  std::vector<ChunkId> second;
  for (uint32_t i = half; i < 2 * half; ++i) second.push_back(chunks_[i].id);
  std::optional<Status> erased;
  tier_->erase(chunks_[0].origin, second, [&](const Status& status) { erased = status; });
  BATON_RETURN_IF_ERROR(run_until([&] { return erased.has_value(); }));
  BATON_RETURN_IF_ERROR(*erased);
  begin_reads();
  const auto seconds = timed(2 * half, [this, half](uint32_t i, const OnEnded& ended) {
    i % 2 == 0 ? read(i / 2, ended) : store(half + i / 2, ended);
  });
  if (!seconds.ok()) return seconds;
  BATON_RETURN_IF_ERROR(compare());
  return seconds;
}

Result<double> TierDriver::first_layer(uint32_t chunk) {
  begin_reads();
  std::optional<double> first;
  std::optional<Status> ended;
  const double began = seconds_now();
  reads_.push_back(tier_->read(
      {.id = chunks_[chunk].id,
       .into = free_.back(),
       .layers = case_.layers,
       .segment_bytes = case_.segment_bytes,
       .deadline = now() + kPatience},
      [&](const Chunk&, uint32_t layer) {
        if (layer == 0 && !first) first = seconds_now() - began;
      },
      [&](const Result<Chunk>& what) { ended = what.status(); }));
  BATON_RETURN_IF_ERROR(run_until([&] { return ended.has_value(); }));
  BATON_RETURN_IF_ERROR(*ended);
  if (!first) return Status(Code::kInternal, "layer 0 was not told");
  if (std::memcmp(free_.back().bytes().data(), chunks_[chunk].slot.bytes().data(),
                  case_.segment_bytes) != 0)
    return Status(Code::kChecksum, "layer 0 is another than was stored");
  return *first;
}

}  // namespace baton::bench
