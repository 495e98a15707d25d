// How fast are chunks stored in the NVMe tier and read back, verified? Against fio with as many
// bytes in the same pieces, as many at a time, in a file beside it.
#include <filesystem>

#include "perf/external.h"
#include "perf/sizes.h"
#include "perf/tier.h"
#include "perf/tier_driver.h"
#include "transfer/tiers/nvme/nvme_tier.h"
#include "transfer/tiers/nvme/slab_format.h"

namespace baton::bench {
namespace {

constexpr uint32_t kChunks = 32;

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

struct Case {
  TierCase tier;
  uint64_t piece_bytes;  // of one read or write
  uint32_t depth;
};

Case case_of(const TierOptions& options, uint64_t segment_bytes, uint64_t io_bytes) {
  // Layers are read together as long as they fit into io_bytes.
  const uint64_t together =
      std::min<uint64_t>(std::max<uint64_t>(1, io_bytes / segment_bytes), options.layers);
  Case c{.tier = {.layers = options.layers,
                  .segment_bytes = segment_bytes,
                  .chunks = options.chunks == 0 ? kChunks : options.chunks,
                  .slot_bytes = slab_bytes_for(options.layers, segment_bytes)},
         .piece_bytes = together * segment_bytes,
         .depth = options.depth};
  // So that the device always has `depth` pieces before it.
  c.tier.window =
      std::min<uint64_t>(c.tier.chunks, 2 + c.depth * c.piece_bytes / c.tier.chunk_bytes());
  return c;
}

Result<std::unique_ptr<TierDriver>> open(const Case& c, const Common& common,
                                         const std::string& file) {
  const TierCase& tier = c.tier;
  const NvmeConfig config{
      .devices = {{file, (tier.chunks + 2) * (tier.slot_bytes + 4096) + (1u << 20)}},
      .slab_bytes = tier.slot_bytes,
      .depth = c.depth,
      .io_bytes = static_cast<uint32_t>(c.piece_bytes),
      .max_stores = tier.window,
      .max_reads = tier.window,
      .max_store_bytes = tier.window * tier.slot_bytes};
  return TierDriver::create(
      tier, common,
      [&](boost::asio::io_context& io, const std::shared_ptr<SlotPool>& pool, Metrics& metrics) {
        return NvmeTier::open(io, config, pool, metrics);
      });
}

struct Operation {
  const char* name;
  FioJob::Io io;
  Result<double> (TierDriver::*once)();
};
constexpr Operation kOperations[] = {{"store", FioJob::Io::kWrite, &TierDriver::store_all},
                                     {"read", FioJob::Io::kRead, &TierDriver::read_all},
                                     {"both", FioJob::Io::kBoth, &TierDriver::both}};

Status answer_one(const TierOptions& options, const Case& c, Run& run) {
  run.progress.begin("tier nvme segment_bytes=" + std::to_string(c.tier.segment_bytes));
  BATON_ASSIGN_OR_RETURN(const auto folder, Folder::create(options.folder));
  BATON_ASSIGN_OR_RETURN(const auto driver, open(c, run.common, folder->file("tier")));
  for (const Operation& operation : kOperations) {
    const bool half = operation.io == FioJob::Io::kBoth;
    const uint64_t bytes = half ? c.tier.chunks / 2 * 2 * c.tier.chunk_bytes() : c.tier.bytes();
    if (bytes == 0) continue;  // one chunk cannot be both
    const FioJob job{.path = folder->file("reference"),
                     .bytes = bytes,
                     .piece_bytes = c.piece_bytes,
                     .depth = c.depth,
                     .io = operation.io};
    FioJob fixed = job;
    fixed.fixed_buffers = true;
    BATON_ASSIGN_OR_RETURN(const auto series,
                           measure({{"tier", [&] { return (driver.get()->*operation.once)(); }},
                                    {"fio", [&] { return fio_seconds(job); }},
                                    {"fio, fixed buffers", [&] { return fio_seconds(fixed); }}},
                                   run.common.samples_or(9), run.progress));
    Line line{.name = "tier",
              .parameters = {{"tier", "nvme"},
                             {"operation", operation.name},
                             {"layers", c.tier.layers},
                             {"segment_bytes", c.tier.segment_bytes},
                             {"chunks", c.tier.chunks},
                             {"depth", c.depth}},
              .bytes = bytes,
              .reference = "fio, io_uring, direct, as many bytes at the same size and depth",
              .ours = series[0],
              .against = series[1]};
    line.also["fixed_buffers_ratio"] = median(series[2]) / median(series[0]);
    line.also["piece_bytes"] = c.piece_bytes;
    line.also["chunks_under_way"] = c.tier.window;
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
    BATON_RETURN_IF_ERROR(answer_one(options, case_of(options, segment_bytes, io_bytes), run));
  }
  return ok_status();
}

}  // namespace baton::bench
