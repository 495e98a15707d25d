// How fast are chunks stored in a tier and read back, verified? Against fio with as many bytes in
// the same pieces, as many at a time, in a file beside it.
#include <boost/asio/io_context.hpp>
#include <cstring>
#include <filesystem>
#include <random>

#include "perf/external.h"
#include "perf/sizes.h"
#include "perf/tier.h"
#include "transfer/base/metrics.h"
#include "transfer/tiers/nvme/nvme_tier.h"
#include "transfer/tiers/nvme/slab_format.h"

namespace baton::bench {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);
constexpr uint32_t kMostSources = 8;  // slots with bytes to store; the chunks share them

constexpr uint32_t kChunks = 32;

struct Case {
  uint32_t layers;
  uint64_t segment_bytes;
  uint64_t piece_bytes;  // of one read or write
  uint32_t chunks;
  uint32_t depth;

  uint64_t chunk_bytes() const { return layers * segment_bytes; }
  uint64_t bytes() const { return chunks * chunk_bytes(); }
  // Chunks under way, so that the device always has `depth` pieces before it.
  uint32_t window() const {
    return std::min<uint64_t>(chunks, 2 + depth * piece_bytes / chunk_bytes());
  }
};

// A folder that goes with the measurement.
class Folder {
 public:
  static Result<std::unique_ptr<Folder>> create(const std::string& parent) {
    std::string name = std::filesystem::path(parent) / "baton-bench-XXXXXX";
    if (mkdtemp(name.data()) == nullptr)
      return Status(Code::kInvalidArgument, Status::from_errno(parent, errno).message());
    return std::unique_ptr<Folder>(new Folder(name));
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const char* name) const { return path_ / name; }

 private:
  explicit Folder(std::string path) : path_(std::move(path)) {}
  const std::filesystem::path path_;
};

// The tier, and chunks for it.
class Store {
 public:
  Store(const Case& c, const Common& common) : case_(c), common_(common) {}
  ~Store() {
    if (tier_ == nullptr) return;
    bool closed = false;
    tier_->close(now() + kPatience, [&] { closed = true; });
    if (run_until([&] { return closed; }).ok()) {
      tier_.reset();
    } else {
      // Its memory may be written to yet: it stays for the process's life.
      (void)tier_.release();
    }
  }

  Status open(const std::string& file) {
    const uint64_t slab_bytes = slab_bytes_for(case_.layers, case_.segment_bytes);
    const uint32_t sources = std::min(case_.chunks, kMostSources);
    BATON_ASSIGN_OR_RETURN(
        auto arena,
        Arena::create({.name = "bench", .bytes = (sources + case_.window()) * slab_bytes}));
    BATON_ASSIGN_OR_RETURN(pool_, SlotPool::create(std::move(arena), slab_bytes));
    NvmeConfig config{.devices = {{file, (case_.chunks + 2) * (slab_bytes + 4096) + (1u << 20)}},
                      .slab_bytes = slab_bytes,
                      .depth = case_.depth,
                      .io_bytes = static_cast<uint32_t>(case_.piece_bytes),
                      .max_stores = case_.window(),
                      .max_reads = case_.window(),
                      .max_store_bytes = case_.window() * slab_bytes};
    BATON_ASSIGN_OR_RETURN(tier_, NvmeTier::open(io_, config, pool_, metrics_));
    make_chunks(sources);
    return ok_status();
  }

  Result<double> store_all() {
    std::optional<Status> cleared;
    tier_->clear({}, false, [&](const Result<ChunkCount>& count) { cleared = count.status(); });
    BATON_RETURN_IF_ERROR(run_until([&] { return cleared.has_value(); }));
    BATON_RETURN_IF_ERROR(*cleared);
    return timed([this](uint32_t i, const std::function<void(const Status&)>& ended) {
      tier_->store(chunks_[i], now() + kPatience, ended);
    });
  }

  Result<double> read_all() {
    std::vector<std::unique_ptr<Tier::Read>> reads(case_.chunks);
    std::vector<std::optional<Chunk>> found(case_.chunks);
    std::vector<SlotRef> free;
    for (uint32_t i = 0; i < case_.window(); ++i) free.push_back(*pool_->allocate());
    for (const SlotRef& slot : free) std::memset(slot.bytes().data(), 0xab, slot.bytes().size());
    const auto seconds = timed([&](uint32_t i, const std::function<void(const Status&)>& ended) {
      SlotRef slot = std::move(free.back());
      free.pop_back();
      reads[i] = tier_->read(
          {.id = chunks_[i].id,
           .into = std::move(slot),
           .layers = case_.layers,
           .segment_bytes = case_.segment_bytes,
           .deadline = now() + kPatience},
          [](const Chunk&, uint32_t) {},
          [&, i, ended](Result<Chunk> chunk) {
            if (chunk.ok()) {
              // The last ones keep their slots, to be compared.
              if (i + case_.window() < case_.chunks) {
                free.push_back(chunk->slot);
              } else {
                found[i] = std::move(*chunk);
              }
            }
            ended(chunk.status());
          });
    });
    if (!seconds.ok()) return seconds;
    for (uint32_t i = 0; i < case_.chunks; ++i) {
      if (!found[i]) continue;
      const std::byte* const expected = chunks_[i].slot.bytes().data();
      if (std::memcmp(found[i]->slot.bytes().data(), expected, case_.chunk_bytes()) != 0 ||
          ++checks_ == common_.corrupt)
        return Status(Code::kChecksum,
                      "chunk " + std::to_string(i) + " is another than was stored");
    }
    return seconds;
  }

 private:
  void make_chunks(uint32_t sources) {
    std::mt19937_64 random(1);
    std::vector<SlotRef> slots;
    for (uint32_t i = 0; i < sources; ++i) {
      slots.push_back(*pool_->allocate());
      const std::span<std::byte> bytes = slots.back().bytes();
      for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
        const uint64_t word = random();
        std::memcpy(bytes.data() + at, &word, sizeof word);
      }
    }
    for (uint32_t i = 0; i < case_.chunks; ++i) {
      Chunk chunk{.tokens = 256, .segment_bytes = case_.segment_bytes, .slot = slots[i % sources]};
      std::memcpy(chunk.id.key.bytes.data(), &i, sizeof i);
      for (uint32_t layer = 0; layer < case_.layers; ++layer) {
        chunk.checksums.push_back(checksum(seed_of(chunk.id, layer, case_.segment_bytes),
                                           chunk.slot.bytes().data() + layer * case_.segment_bytes,
                                           case_.segment_bytes));
      }
      chunks_.push_back(std::move(chunk));
    }
  }

  Status run_until(const std::function<bool()>& condition) {
    const TimePoint deadline = now() + 2 * kPatience;
    while (!condition()) {
      if (now() >= deadline) return Status(Code::kDeadlineExceeded, "the tier does not answer");
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(100));
    }
    return ok_status();
  }

  // All chunks, as many at a time as the window has.
  using Begin =
      std::function<void(uint32_t chunk, const std::function<void(const Status&)>& ended)>;
  Result<double> timed(const Begin& begin) {
    uint32_t next = 0, ended = 0;
    Status status;
    std::function<void(const Status&)> on_end;
    const auto fill = [&] {
      while (next < case_.chunks && next - ended < case_.window()) begin(next++, on_end);
    };
    on_end = [&](const Status& end) {
      if (status.ok()) status = end;
      ++ended;
      fill();
    };
    const double began = seconds_now();
    fill();
    BATON_RETURN_IF_ERROR(run_until([&] { return ended == case_.chunks; }));
    const double seconds = seconds_now() - began;
    if (!status.ok()) return status;
    return seconds;
  }

  const Case case_;
  const Common& common_;
  uint32_t checks_ = 0;
  boost::asio::io_context io_{1};
  Metrics metrics_;
  std::shared_ptr<SlotPool> pool_;
  std::unique_ptr<Tier> tier_;
  std::vector<Chunk> chunks_;
};

Status answer_one(const TierOptions& options, const Case& c, Run& run) {
  run.progress.begin("tier nvme segment_bytes=" + std::to_string(c.segment_bytes));
  BATON_ASSIGN_OR_RETURN(const auto folder, Folder::create(options.folder));
  Store store(c, run.common);
  BATON_RETURN_IF_ERROR(store.open(folder->file("tier")));
  for (const bool write : {true, false}) {
    const FioJob job{.path = folder->file("reference"),
                     .bytes = c.bytes(),
                     .piece_bytes = c.piece_bytes,
                     .depth = c.depth,
                     .write = write};
    BATON_ASSIGN_OR_RETURN(
        const auto series,
        measure({{"tier", [&] { return write ? store.store_all() : store.read_all(); }},
                 {"fio", [&] { return fio_seconds(job); }}},
                run.common.samples_or(9), run.progress));
    Line line{.name = "tier",
              .parameters = {{"tier", "nvme"},
                             {"operation", write ? "store" : "read"},
                             {"layers", c.layers},
                             {"segment_bytes", c.segment_bytes},
                             {"chunks", c.chunks},
                             {"depth", c.depth}},
              .bytes = c.bytes(),
              .reference = "fio, io_uring, direct, as many bytes at the same size and depth",
              .ours = series[0],
              .against = series[1]};
    line.also["piece_bytes"] = c.piece_bytes;
    line.also["chunks_under_way"] = c.window();
    run.report.add(line);
  }
  return ok_status();
}

}  // namespace

Status measure_nvme(Run& run, const TierOptions& options) {
  if (options.layers > nvme::kMaxLayers)
    return Status(Code::kInvalidArgument, "--layers is " + std::to_string(options.layers) +
                                              ": expected at most " +
                                              std::to_string(nvme::kMaxLayers));
  BATON_ASSIGN_OR_RETURN(const auto segments, parse_byte_list(options.segment_bytes));
  BATON_ASSIGN_OR_RETURN(const uint64_t io_bytes, parse_bytes(options.io_bytes));
  for (const uint64_t segment_bytes : segments) {
    if (segment_bytes % 4096 != 0 || io_bytes % 4096 != 0 || io_bytes == 0) {
      return Status(
          Code::kInvalidArgument,
          "--segment-bytes and --io-bytes: expected multiples of 4096, as fio needs them");
    }
    // Layers are read together as long as they fit into io_bytes.
    const uint64_t together =
        std::min<uint64_t>(std::max<uint64_t>(1, io_bytes / segment_bytes), options.layers);
    const Case c{.layers = options.layers,
                 .segment_bytes = segment_bytes,
                 .piece_bytes = together * segment_bytes,
                 .chunks = options.chunks == 0 ? kChunks : options.chunks,
                 .depth = options.depth};
    BATON_RETURN_IF_ERROR(answer_one(options, c, run));
  }
  return ok_status();
}

}  // namespace baton::bench
