// How fast do gather and scatter copy, checksum included? Against the same shuffled copies as a
// bare loop; beside it contiguous memcpy, the same loop without a checksum, and with the checksum
// as a pass of its own.
#include <algorithm>
#include <cstring>

#include "kernels/checksum.h"
#include "kernels/gather.h"
#include "kernels/scatter.h"
#include "perf/bare_copy.h"
#include "perf/bench.h"
#include "perf/gpu.h"
#include "perf/kv_pool.h"
#include "perf/sizes.h"

namespace baton::bench {
namespace {

struct Options {
  std::string bytes = "256MiB";
  std::string segment_bytes = "1MiB";
  std::string run_bytes = "64KiB,16KiB,4KiB,1KiB,512B,128B";
  std::string block_bytes = "64KiB";  // of the layouts that are read in another order
  std::string memory = "host";
};

// On a GPU a block is one run.
constexpr const char* kGpuBlocks = "1MiB,256KiB,64KiB,16KiB,4KiB";

// Payloads lie in a ring that stays in the last cache, as staging memory does.
constexpr uint32_t kRing = 8;
constexpr uint32_t kBlockTokens = 16;

// One layout, one payload order: all segments of a pool.
class Copies {
 public:
  static Result<std::unique_ptr<Copies>> create(const KvLayout& layout, PayloadOrder order,
                                                uint64_t bytes, uint64_t segment_bytes) {
    const auto block_bytes = static_cast<uint64_t>(layout.block_stride);
    const auto segment_blocks =
        static_cast<uint32_t>(std::max<uint64_t>(1, segment_bytes / block_bytes));
    const auto segments =
        static_cast<uint32_t>(std::max<uint64_t>(1, bytes / (segment_blocks * block_bytes)));
    BATON_ASSIGN_OR_RETURN(auto pool, KvPool::create(layout, 1, segments * segment_blocks));
    return std::unique_ptr<Copies>(
        new Copies(std::move(pool), layout, order, segment_blocks, segments));
  }

  uint64_t bytes() const { return pool_->bytes().size(); }
  const BareRuns& runs() const { return runs_; }

  Result<double> gather_ours(bool wrong) {
    BATON_ASSIGN_OR_RETURN(const double seconds, gathered([&](uint32_t s, std::byte* payload) {
                             sums_[s] = gather(segment(s), order_, seed(s), payload);
                           }));
    if (wrong) sums_[0].value ^= 1;
    for (uint32_t s = 0; s < segments_; ++s)
      if (sums_[s] != expected_[s]) return wrong_bytes("gather", s);
    return seconds;
  }
  Result<double> gather_bare() {
    return gathered([&](uint32_t s, std::byte* to) { bare_gather(runs_, segment(s), to); });
  }
  Result<double> gather_unchecked() {
    return gathered([&](uint32_t s, std::byte* to) { unchecked_gather(runs_, segment(s), to); });
  }
  Result<double> gather_then_check() {
    return gathered([&](uint32_t s, std::byte* payload) {
      unchecked_gather(runs_, segment(s), payload);
      sums_[s] = checksum(seed(s), payload, segment_bytes_);
    });
  }

  Result<double> scatter_ours(bool wrong) {
    return scattered(
        [&](uint32_t s, std::byte* payload) {
          sums_[s] = scatter(segment(s), order_, seed(s), payload);
        },
        wrong);
  }
  Result<double> scatter_bare() {
    return scattered([&](uint32_t s, std::byte* from) { bare_scatter(runs_, segment(s), from); });
  }
  Result<double> scatter_unchecked() {
    return scattered(
        [&](uint32_t s, std::byte* from) { unchecked_scatter(runs_, segment(s), from); });
  }
  Result<double> scatter_then_check() {
    return scattered([&](uint32_t s, std::byte* payload) {
      sums_[s] = checksum(seed(s), payload, segment_bytes_);
      unchecked_scatter(runs_, segment(s), payload);
    });
  }

  // As many bytes from one end of the pool to the other side of the ring, or back.
  Result<double> memcpy_out() { return contiguous(true); }
  Result<double> memcpy_in() { return contiguous(false); }

 private:
  Copies(std::unique_ptr<KvPool> pool, const KvLayout& layout, PayloadOrder order,
         uint32_t segment_blocks, uint32_t segments)
      : pool_(std::move(pool)),
        kv_(pool_->kv()),
        order_(order),
        runs_(layout, order),
        segment_blocks_(segment_blocks),
        segments_(segments),
        segment_bytes_(segment_blocks * pool_->block_bytes()),
        blocks_(shuffled_blocks(pool_->blocks(), 1)),
        ring_(kRing * segment_bytes_ + 64),
        scratch_(segment_bytes_),
        sums_(segments),
        expected_(segments) {
    pool_->fill();
    for (uint32_t s = 0; s < segments_; ++s) {
      bare_gather(runs_, segment(s), scratch_.data());
      expected_[s] = checksum(seed(s), scratch_.data(), segment_bytes_);
    }
  }

  KvSegment segment(uint32_t s) const {
    return {kv_.layer_base[0], kv_.layout, blocks_.data() + size_t{s} * segment_blocks_,
            segment_blocks_ * kv_.layout.block_tokens};
  }
  ChecksumSeed seed(uint32_t s) const { return {s + 1, segment_bytes_}; }
  std::byte* slot(uint32_t s) {
    const auto start = reinterpret_cast<uintptr_t>(ring_.data());
    return ring_.data() + (64 - start % 64) % 64 + (s % kRing) * segment_bytes_;
  }
  static Status wrong_bytes(const char* what, uint32_t s) {
    return Status(Code::kChecksum,
                  std::string(what) + " of segment " + std::to_string(s) + " is not what it read");
  }

  template <typename Copy>
  Result<double> gathered(Copy&& copy) {
    std::fill(ring_.begin(), ring_.end(), std::byte{0xdb});
    const double began = seconds_now();
    for (uint32_t s = 0; s < segments_; ++s) copy(s, slot(s));
    const double seconds = seconds_now() - began;
    for (uint32_t s = segments_ - std::min(segments_, kRing); s < segments_; ++s) {
      bare_gather(runs_, segment(s), scratch_.data());
      if (std::memcmp(scratch_.data(), slot(s), segment_bytes_) != 0)
        return wrong_bytes("gather", s);
    }
    return seconds;
  }

  // Slot s of the ring holds the bytes of segment s, for all s of one turn: other turns get the
  // same ones.
  template <typename Copy>
  Result<double> scattered(Copy&& copy, bool wrong = false) {
    if (!ring_ready_) {
      for (uint32_t s = 0; s < std::min(segments_, kRing); ++s)
        bare_gather(runs_, segment(s), slot(s));
      ring_ready_ = true;
    }
    pool_->poison();
    const double began = seconds_now();
    for (uint32_t s = 0; s < segments_; ++s) copy(s, slot(s));
    const double seconds = seconds_now() - began;
    if (wrong) *pool_->block(0, blocks_[0]) ^= std::byte{1};
    for (uint32_t s = 0; s < segments_; ++s) {
      bare_gather(runs_, segment(s), scratch_.data());
      if (std::memcmp(scratch_.data(), slot(s), segment_bytes_) != 0)
        return wrong_bytes("scatter", s);
    }
    return seconds;
  }

  Result<double> contiguous(bool out) {
    std::byte* pool = pool_->bytes().data();
    const double began = seconds_now();
    for (uint32_t s = 0; s < segments_; ++s) {
      std::byte* at = pool + s * segment_bytes_;
      out ? std::memcpy(slot(s), at, segment_bytes_) : std::memcpy(at, slot(s), segment_bytes_);
    }
    return seconds_now() - began;
  }

  const std::unique_ptr<KvPool> pool_;
  const KvMemory kv_;
  const PayloadOrder order_;
  const BareRuns runs_;
  const uint32_t segment_blocks_;
  const uint32_t segments_;
  const size_t segment_bytes_;
  const std::vector<uint32_t> blocks_;
  std::vector<std::byte> ring_;
  std::vector<std::byte> scratch_;
  std::vector<Checksum> sums_;
  std::vector<Checksum> expected_;
  bool ring_ready_ = false;
};

Status measure_copies(Run& run, Copies& copies, bool out, Json parameters) {
  run.progress.begin("kernels " + parameters.dump());
  const auto ours = [&, checks = 0u]() mutable {
    const bool wrong = ++checks == run.common.corrupt;
    return out ? copies.gather_ours(wrong) : copies.scatter_ours(wrong);
  };
  BATON_ASSIGN_OR_RETURN(
      const auto series,
      measure({{"ours", ours},
               {"bare loop", [&] { return out ? copies.gather_bare() : copies.scatter_bare(); }},
               {"without a checksum",
                [&] { return out ? copies.gather_unchecked() : copies.scatter_unchecked(); }},
               {"the checksum as a pass of its own",
                [&] { return out ? copies.gather_then_check() : copies.scatter_then_check(); }},
               {"memcpy", [&] { return out ? copies.memcpy_out() : copies.memcpy_in(); }}},
              run.common.samples_or(9), run.progress));
  Line line{.name = "kernels",
            .parameters = std::move(parameters),
            .bytes = copies.bytes(),
            .reference = "the same shuffled copies as a bare loop",
            .ours = series[0],
            .against = series[1],
            .blame = out ? "gather" : "verify_scatter"};
  add_also(line, "unchecked", series[2]);
  add_also(line, "checksum_as_own_pass", series[3]);
  add_also(line, "memcpy", series[4]);
  run.report.add(line);
  return ok_status();
}

Status answer_on_gpu(uint32_t device, const Options& options, bool blocks_given, Run& run) {
  GpuKernels what{.device = device};
  BATON_ASSIGN_OR_RETURN(what.bytes, parse_bytes(options.bytes));
  BATON_ASSIGN_OR_RETURN(what.segment_bytes, parse_bytes(options.segment_bytes));
  BATON_ASSIGN_OR_RETURN(const auto blocks,
                         parse_byte_list(blocks_given ? options.block_bytes : kGpuBlocks));
  for (const uint64_t bytes : blocks) {
    what.block_bytes = bytes;
    BATON_RETURN_IF_ERROR(measure_gpu_kernels(run, what));
  }
  return ok_status();
}

Status answer_on_host(const Options& options, Run& run) {
  BATON_ASSIGN_OR_RETURN(const uint64_t bytes, parse_bytes(options.bytes));
  BATON_ASSIGN_OR_RETURN(const uint64_t segment_bytes, parse_bytes(options.segment_bytes));
  BATON_ASSIGN_OR_RETURN(const auto run_list, parse_byte_list(options.run_bytes));
  BATON_ASSIGN_OR_RETURN(const uint64_t block_bytes, parse_bytes(options.block_bytes));
  for (const bool out : {true, false})
    for (const uint64_t run_bytes : run_list) {
      BATON_ASSIGN_OR_RETURN(const KvLayout layout,
                             bench_layout("one-run", run_bytes, kBlockTokens));
      BATON_ASSIGN_OR_RETURN(
          auto copies, Copies::create(layout, PayloadOrder::kTokenHead, bytes, segment_bytes));
      BATON_RETURN_IF_ERROR(measure_copies(run, *copies, out,
                                           {{"operation", out ? "gather" : "scatter"},
                                            {"run_bytes", copies->runs().run_bytes},
                                            {"segment_bytes", segment_bytes}}));
    }
  // A payload in the order of one layout, scattered into the other.
  for (const bool to_hnd : {true, false}) {
    BATON_ASSIGN_OR_RETURN(const KvLayout layout,
                           bench_layout(to_hnd ? "hnd" : "nhd", block_bytes, kBlockTokens));
    BATON_ASSIGN_OR_RETURN(
        auto copies,
        Copies::create(layout, to_hnd ? PayloadOrder::kTokenHead : PayloadOrder::kHeadToken, bytes,
                       segment_bytes));
    BATON_RETURN_IF_ERROR(measure_copies(run, *copies, false,
                                         {{"operation", "scatter"},
                                          {"layouts", to_hnd ? "NHD to HND" : "HND to NHD"},
                                          {"run_bytes", copies->runs().run_bytes},
                                          {"segment_bytes", segment_bytes}}));
  }
  return ok_status();
}

}  // namespace

Question add_kernels(const Command& app) {
  auto options = std::make_shared<Options>();
  Command command = app.add_command("kernels", "how fast do gather and scatter copy and check");
  command.add_option("--bytes", options->bytes, "copied in a sample (256MiB)");
  command.add_option("--segment-bytes", options->segment_bytes, "of a segment (1MiB)");
  command.add_option("--run-bytes", options->run_bytes,
                     "lengths of contiguous runs (64KiB,16KiB,4KiB,1KiB,512B,128B)");
  command.add_option("--block-bytes", options->block_bytes,
                     "of a block that is written in another order than it was read (64KiB)");
  command.add_option("--memory", options->memory,
                     "host, cuda or cuda:N; on a GPU --block-bytes is a list of run lengths "
                     "(host)");
  return {command, [options, command](Run& run) -> Status {
            BATON_ASSIGN_OR_RETURN(const auto device, parse_memory(options->memory));
            if (!device) return answer_on_host(*options, run);
            return answer_on_gpu(*device, *options, command.given("--block-bytes"), run);
          }};
}

}  // namespace baton::bench
