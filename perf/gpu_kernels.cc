// How fast are the kernels on a GPU? In device memory against one copy within it, and between
// device and host as the copier does it (cuda_copier.h) against one copy over PCIe; beside the
// latter a kernel that reads or writes mapped host memory itself.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "kernels/checksum.h"
#include "kernels/cuda.h"
#include "perf/bare_copy.h"
#include "perf/gpu.h"
#include "perf/kv_pool.h"
#include "perf/sizes.h"
#include "transfer/cuda/cuda_memory.h"

namespace baton::bench {
namespace {

constexpr uint32_t kBlockTokens = 16;
constexpr size_t kStreams = 4;  // as many as the copier has bays
constexpr std::byte kPoison{0xdb};

// Keeps a stream waiting until all that is to be timed is enqueued: in the GPU's memory a launch
// runs for about as long as the next one takes to enqueue.
class Gate {
 public:
  Status close(cudaStream_t stream) {
    open_ = gave_up_ = false;
    return cuda::status_of(cudaLaunchHostFunc(stream, &Gate::wait, this), "closing the gate");
  }
  void open() { open_ = true; }
  // Of a stream that is through with its work: whether it waited until all was enqueued.
  Status held() const {
    if (!gave_up_) return ok_status();
    return {Code::kDeadlineExceeded,
            "enqueuing took longer than 10 s: what the GPU takes without it is not known"};
  }

 private:
  // Not for ever, should enqueuing wait for the stream.
  static void wait(void* of) {
    auto* const gate = static_cast<Gate*>(of);
    const TimePoint end = now() + std::chrono::seconds(10);
    while (!gate->open_) {
      if (now() >= end) {
        gate->gave_up_ = true;
        return;
      }
      std::this_thread::yield();
    }
  }

  std::atomic<bool> open_{true};
  std::atomic<bool> gave_up_{false};
};

enum class Timing : uint8_t { kWithEnqueuing, kOnGpuAlone };

// All segments of a pool of one layer, whose blocks are read in a shuffled order. Payloads lie one
// after the other, once on the device and once in pinned host memory.
class GpuCopies {
 public:
  static Result<std::unique_ptr<GpuCopies>> create(const GpuKernels& what) {
    BATON_ASSIGN_OR_RETURN(const KvLayout layout,
                           bench_layout("one-run", what.block_bytes, kBlockTokens));
    const auto blocks =
        static_cast<uint32_t>(std::max<uint64_t>(1, what.segment_bytes / what.block_bytes));
    const auto segments =
        static_cast<uint32_t>(std::max<uint64_t>(1, what.bytes / (blocks * what.block_bytes)));
    std::unique_ptr<GpuCopies> copies(new GpuCopies(layout, blocks, segments));
    BATON_RETURN_IF_ERROR(copies->open(what.device));
    return copies;
  }

  size_t bytes() const { return segments_ * segment_bytes_; }

  // --- out of the blocks
  Result<double> gather(LaunchShape shape, bool wrong) {
    BATON_ASSIGN_OR_RETURN(const double seconds, timed(Timing::kOnGpuAlone, [&] {
                             return launch_gather(all(device_payload_.get()), sums(), shape,
                                                  streams_[0].get());
                           }));
    BATON_RETURN_IF_ERROR(fetch_sums(wrong));
    BATON_RETURN_IF_ERROR(cuda::status_of(
        cudaMemcpy(host_payload_.get(), device_payload_.get(), bytes(), cudaMemcpyDeviceToHost),
        "fetching payloads"));
    BATON_RETURN_IF_ERROR(check_payloads());
    return seconds;
  }
  Result<double> copy_on_device() {
    return timed(Timing::kOnGpuAlone, [&] {
      return cuda::status_of(cudaMemcpyAsync(device_payload_.get(), pool_->kv().layer_base[0],
                                             bytes(), cudaMemcpyDeviceToDevice, streams_[0].get()),
                             "a copy on the GPU");
    });
  }
  Result<double> gather_to_host(bool wrong) {
    BATON_ASSIGN_OR_RETURN(const double seconds,
                           timed(Timing::kWithEnqueuing, [&] { return staged(true); }));
    BATON_RETURN_IF_ERROR(fetch_sums(wrong));
    BATON_RETURN_IF_ERROR(check_payloads());
    return seconds;
  }
  Result<double> gather_mapped() {
    BATON_ASSIGN_OR_RETURN(const double seconds, timed(Timing::kWithEnqueuing, [&] {
                             return launch_gather(all(host_payload_.get()), sums(), {},
                                                  streams_[0].get());
                           }));
    BATON_RETURN_IF_ERROR(fetch_sums(false));
    BATON_RETURN_IF_ERROR(check_payloads());
    return seconds;
  }
  Result<double> copy_to_host() { return over_pcie(cudaMemcpyDeviceToHost); }

  // --- into the blocks
  Result<double> scatter(LaunchShape shape, bool wrong) {
    return scattered(Timing::kOnGpuAlone, wrong, [&] {
      return launch_scatter(all(device_payload_.get()), sums(), shape, streams_[0].get());
    });
  }
  Result<double> scatter_from_host(bool wrong) {
    return scattered(Timing::kWithEnqueuing, wrong, [&] { return staged(false); });
  }
  Result<double> scatter_mapped() {
    return scattered(Timing::kWithEnqueuing, false, [&] {
      return launch_scatter(all(host_payload_.get()), sums(), {}, streams_[0].get());
    });
  }
  Result<double> copy_from_host() { return over_pcie(cudaMemcpyHostToDevice); }

  // As many blocks of threads as keep the whole GPU busy.
  LaunchShape whole_gpu() const { return {2 * multiprocessors_, 512}; }

 private:
  GpuCopies(const KvLayout& layout, uint32_t segment_blocks, uint32_t segments)
      : layout_(layout),
        segment_blocks_(segment_blocks),
        segments_(segments),
        segment_bytes_(segment_blocks * static_cast<size_t>(layout.block_stride)),
        blocks_(shuffled_blocks(segment_blocks * segments, 1)),
        expected_(bytes()) {}

  Status open(uint32_t device) {
    BATON_RETURN_IF_ERROR(cuda_usable());
    BATON_RETURN_IF_ERROR(cuda::use_device(device));
    int count = 0;
    BATON_RETURN_IF_ERROR(cuda::status_of(
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, static_cast<int>(device)),
        "asking the GPU"));
    multiprocessors_ = static_cast<uint32_t>(count);
    BATON_ASSIGN_OR_RETURN(pool_,
                           KvPool::create(layout_, 1, static_cast<uint32_t>(blocks_.size())));
    pool_->fill();
    const BareRuns runs(layout_, PayloadOrder::kTokenHead);
    const std::byte* const base = pool_->kv().layer_base[0];
    for (uint32_t s = 0; s < segments_; ++s)
      bare_gather(runs, segment(s, const_cast<std::byte*>(base), blocks_.data()),
                  expected_.data() + s * segment_bytes_);
    for (uint32_t s = 0; s < segments_; ++s)
      expected_sums_.push_back(
          checksum(seed(s), expected_.data() + s * segment_bytes_, segment_bytes_));
    BATON_RETURN_IF_ERROR(pool_->put_on_gpu(device));
    BATON_ASSIGN_OR_RETURN(device_payload_, cuda::device_memory(bytes()));
    BATON_ASSIGN_OR_RETURN(host_payload_, cuda::pinned_memory(bytes()));
    const size_t table = blocks_.size() * sizeof(uint32_t);
    BATON_ASSIGN_OR_RETURN(device_blocks_, cuda::device_memory(table));
    BATON_RETURN_IF_ERROR(cuda::status_of(
        cudaMemcpy(device_blocks_.get(), blocks_.data(), table, cudaMemcpyHostToDevice),
        "the block list"));
    BATON_ASSIGN_OR_RETURN(sums_, cuda::device_memory(segments_ * sizeof(Checksum)));
    for (cuda::Stream& stream : streams_) {
      BATON_ASSIGN_OR_RETURN(stream, cuda::stream());
    }
    for (cuda::Event& event : joins_) {
      BATON_ASSIGN_OR_RETURN(event, cuda::event());
    }
    BATON_ASSIGN_OR_RETURN(begin_, cuda::event(true));
    BATON_ASSIGN_OR_RETURN(end_, cuda::event(true));
    return ok_status();
  }

  KvSegment segment(uint32_t s, std::byte* base, const uint32_t* blocks) const {
    return {base, layout_, blocks + size_t{s} * segment_blocks_, segment_blocks_ * kBlockTokens};
  }
  ChecksumSeed seed(uint32_t s) const { return {s + 1, segment_bytes_}; }
  LaunchSegment launch(uint32_t s, std::byte* payloads) const {
    return {segment(s, pool_->kv().layer_base[0],
                    reinterpret_cast<const uint32_t*>(device_blocks_.get())),
            PayloadOrder::kTokenHead, seed(s), payloads + s * segment_bytes_};
  }
  std::vector<LaunchSegment> all(std::byte* payloads) const {
    std::vector<LaunchSegment> out;
    for (uint32_t s = 0; s < segments_; ++s) out.push_back(launch(s, payloads));
    return out;
  }

  // What the copier does of each segment, on as many streams.
  Status staged(bool out) {
    for (uint32_t s = 0; s < segments_; ++s) {
      const cudaStream_t stream = streams_[s % kStreams].get();
      const LaunchSegment one = launch(s, device_payload_.get());
      std::byte* const host = host_payload_.get() + s * segment_bytes_;
      if (out) {
        BATON_RETURN_IF_ERROR(launch_gather({&one, 1}, sums() + s, {}, stream));
        BATON_RETURN_IF_ERROR(cuda::status_of(
            cudaMemcpyAsync(host, one.payload, segment_bytes_, cudaMemcpyDeviceToHost, stream),
            "a copy to the host"));
      } else {
        BATON_RETURN_IF_ERROR(cuda::status_of(
            cudaMemcpyAsync(one.payload, host, segment_bytes_, cudaMemcpyHostToDevice, stream),
            "a copy from the host"));
        BATON_RETURN_IF_ERROR(launch_scatter({&one, 1}, sums() + s, {}, stream));
      }
    }
    return ok_status();
  }

  // Seconds on the GPU from the first stream's begin to the last one's end.
  template <typename Work>
  Result<double> timed(Timing timing, Work&& work) {
    const Result<double> seconds = timed_gated(timing, work);
    gate_.open();
    return seconds;
  }
  template <typename Work>
  Result<double> timed_gated(Timing timing, Work&& work) {
    BATON_RETURN_IF_ERROR(cuda::status_of(cudaDeviceSynchronize(), "waiting for the GPU"));
    const cudaStream_t first = streams_[0].get();
    if (timing == Timing::kOnGpuAlone) BATON_RETURN_IF_ERROR(gate_.close(first));
    BATON_RETURN_IF_ERROR(
        cuda::status_of(cudaEventRecord(begin_.get(), first), "recording the begin"));
    for (size_t i = 1; i < kStreams; ++i)
      BATON_RETURN_IF_ERROR(cuda::status_of(cudaStreamWaitEvent(streams_[i].get(), begin_.get(), 0),
                                            "waiting for the begin"));
    BATON_RETURN_IF_ERROR(work());
    for (size_t i = 1; i < kStreams; ++i) {
      BATON_RETURN_IF_ERROR(cuda::status_of(cudaEventRecord(joins_[i].get(), streams_[i].get()),
                                            "recording a stream's end"));
      BATON_RETURN_IF_ERROR(
          cuda::status_of(cudaStreamWaitEvent(first, joins_[i].get(), 0), "waiting for a stream"));
    }
    BATON_RETURN_IF_ERROR(cuda::status_of(cudaEventRecord(end_.get(), first), "recording the end"));
    gate_.open();
    BATON_RETURN_IF_ERROR(cuda::status_of(cudaEventSynchronize(end_.get()), "waiting for the end"));
    if (timing == Timing::kOnGpuAlone) BATON_RETURN_IF_ERROR(gate_.held());
    float milliseconds = 0;
    BATON_RETURN_IF_ERROR(cuda::status_of(
        cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()), "the time taken"));
    return static_cast<double>(milliseconds) * 1e-3;
  }

  Result<double> over_pcie(cudaMemcpyKind kind) {
    const bool out = kind == cudaMemcpyDeviceToHost;
    return timed(Timing::kWithEnqueuing, [&] {
      return cuda::status_of(cudaMemcpyAsync(out ? host_payload_.get() : device_payload_.get(),
                                             out ? device_payload_.get() : host_payload_.get(),
                                             bytes(), kind, streams_[0].get()),
                             "a copy over PCIe");
    });
  }

  // Payloads are put where they are read from, the blocks are poisoned; afterwards all of the pool
  // must be as it was filled.
  template <typename Work>
  Result<double> scattered(Timing timing, bool wrong, Work&& work) {
    std::memcpy(host_payload_.get(), expected_.data(), bytes());
    BATON_RETURN_IF_ERROR(cuda::status_of(
        cudaMemcpy(device_payload_.get(), host_payload_.get(), bytes(), cudaMemcpyHostToDevice),
        "placing payloads"));
    pool_->poison();
    BATON_RETURN_IF_ERROR(pool_->upload());
    BATON_ASSIGN_OR_RETURN(const double seconds, timed(timing, work));
    BATON_RETURN_IF_ERROR(fetch_sums(wrong));
    BATON_RETURN_IF_ERROR(pool_->download());
    if (pool_->wrong_words(blocks_, blocks_) != 0)
      return Status(Code::kChecksum, "the blocks are not what was scattered into them");
    return seconds;
  }

  Status fetch_sums(bool wrong) {
    std::vector<Checksum> got(segments_);
    BATON_RETURN_IF_ERROR(cuda::status_of(
        cudaMemcpy(got.data(), sums(), segments_ * sizeof(Checksum), cudaMemcpyDeviceToHost),
        "fetching checksums"));
    if (wrong) got[0].value ^= 1;
    for (uint32_t s = 0; s < segments_; ++s)
      if (got[s] != expected_sums_[s])
        return Status(Code::kChecksum,
                      "the checksum of segment " + std::to_string(s) + " is not the host's");
    return ok_status();
  }
  Status check_payloads() {
    const bool equal = std::memcmp(host_payload_.get(), expected_.data(), bytes()) == 0;
    std::memset(host_payload_.get(), static_cast<int>(kPoison), bytes());
    BATON_RETURN_IF_ERROR(cuda::status_of(
        cudaMemset(device_payload_.get(), static_cast<int>(kPoison), bytes()), "poisoning"));
    return equal ? ok_status()
                 : Status(Code::kChecksum, "the payloads are not what was gathered from");
  }

  Checksum* sums() const { return reinterpret_cast<Checksum*>(sums_.get()); }

  const KvLayout layout_;
  const uint32_t segment_blocks_;
  const uint32_t segments_;
  const size_t segment_bytes_;
  const std::vector<uint32_t> blocks_;
  std::vector<std::byte> expected_;
  std::vector<Checksum> expected_sums_;
  uint32_t multiprocessors_ = 1;
  std::unique_ptr<KvPool> pool_;
  cuda::DeviceMemory device_payload_, device_blocks_, sums_;
  cuda::PinnedMemory host_payload_;
  std::array<cuda::Event, kStreams> joins_;
  cuda::Event begin_, end_;
  Gate gate_;
  std::array<cuda::Stream, kStreams> streams_;
};

struct Operation {
  const char* name;
  const char* reference;
  const char* other;  // a further way
  std::function<Result<double>(bool wrong)> ours;
  std::function<Result<double>()> against, also;
  const char* stage;
};

}  // namespace

Status measure_gpu_kernels(Run& run, const GpuKernels& what) {
  BATON_ASSIGN_OR_RETURN(const std::string gpu, gpu_name(what.device));
  BATON_ASSIGN_OR_RETURN(const auto copies, GpuCopies::create(what));
  const LaunchShape all = copies->whole_gpu();
  const char* const kOnDevice = "one copy of as many bytes within the GPU's memory";
  const char* const kOut = "one copy of as many bytes to pinned host memory";
  const char* const kIn = "one copy of as many bytes from pinned host memory";
  const Operation operations[] = {
      {"gather", kOnDevice, "default_launch", [&](bool w) { return copies->gather(all, w); },
       [&] { return copies->copy_on_device(); }, [&] { return copies->gather({}, false); },
       "gather"},
      {"scatter", kOnDevice, "default_launch", [&](bool w) { return copies->scatter(all, w); },
       [&] { return copies->copy_on_device(); }, [&] { return copies->scatter({}, false); },
       "verify_scatter"},
      {"gather to host", kOut, "mapped", [&](bool w) { return copies->gather_to_host(w); },
       [&] { return copies->copy_to_host(); }, [&] { return copies->gather_mapped(); }, "gather"},
      {"scatter from host", kIn, "mapped", [&](bool w) { return copies->scatter_from_host(w); },
       [&] { return copies->copy_from_host(); }, [&] { return copies->scatter_mapped(); },
       "verify_scatter"}};
  for (const Operation& operation : operations) {
    Json parameters{{"operation", operation.name},
                    {"memory", memory_text(what.device)},
                    {"block_bytes", what.block_bytes},
                    {"segment_bytes", std::max(what.segment_bytes, what.block_bytes)}};
    run.progress.begin("kernels " + parameters.dump());
    const auto ours = [&, checks = 0u]() mutable {
      return operation.ours(++checks == run.common.corrupt);
    };
    BATON_ASSIGN_OR_RETURN(const auto series, measure({{"ours", ours},
                                                       {"the reference", operation.against},
                                                       {operation.other, operation.also}},
                                                      run.common.samples_or(9), run.progress));
    Line line{.name = "kernels",
              .parameters = std::move(parameters),
              .bytes = copies->bytes(),
              .reference = operation.reference,
              .ours = series[0],
              .against = series[1],
              .blame = operation.stage};
    add_also(line, operation.other, series[2]);
    line.also["gpu"] = gpu;
    run.report.add(line);
  }
  return ok_status();
}

}  // namespace baton::bench
