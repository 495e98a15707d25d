// How fast does one handoff bring its bytes into the receiving engine's blocks?
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "perf/external.h"
#include "perf/gpu.h"
#include "perf/pair_options.h"
#include "perf/timeline_file.h"

namespace baton::bench {
namespace {

constexpr uint32_t kExternalTurns = 5;
constexpr size_t kIperf3Piece = 1u << 20;

struct Options : PairOptions {
  std::string memory = "host";
  std::string timeline;
  bool external = false;
};

// Contiguous copies out of the sender's KV memory, by one thread, into memory that no cache holds.
class Memcpy {
 public:
  explicit Memcpy(std::span<const std::byte> from)
      : from_(from), to_(std::min(from.size(), kToBytes), std::byte{1}) {}
  Result<double> once() {
    const double began = seconds_now();
    for (size_t at = 0; at < from_.size(); at += to_.size())
      std::memcpy(to_.data(), from_.data() + at, std::min(to_.size(), from_.size() - at));
    return seconds_now() - began;
  }

 private:
  static constexpr size_t kToBytes = 128u << 20;
  const std::span<const std::byte> from_;
  std::vector<std::byte> to_;
};

Status write_timeline(Pair& pair, size_t first, const std::string& file) {
  const auto ours = pair.side().timeline()->events().subspan(first);
  BATON_ASSIGN_OR_RETURN(const auto theirs, pair.other_timeline());
  return write_timeline_file(file, ours, theirs);
}

// As many bytes as the pool has, contiguous, from the sender's GPU to pinned host memory.
Way pcie_way(Pair& pair) {
  return {"pcie_copy", [&pair]() -> Result<double> {
            const double began = seconds_now();
            BATON_RETURN_IF_ERROR(pair.side().pool().download());
            return seconds_now() - began;
          }};
}

// How our own reference stands beside other people's programs, in turns with it. One that does not
// run is said to be missing, and costs nobody the line; wrong bytes of ours do.
Status add_external(Line& line, Pair& pair, Progress& progress) {
  const bool ucx = pair.spec().channel == ChannelChoice::kUcx;
  const std::string name = ucx ? "ucx_perftest" : "iperf3";
  const auto theirs = [&]() -> Result<double> {
    BATON_ASSIGN_OR_RETURN(const double rate, ucx ? ucx_perftest_rate() : iperf3_rate());
    return static_cast<double>(*line.bytes) / rate;
  };
  // iperf3 sends the same 1 MiB again and again; so does this, beside our reference, which reads
  // what no cache holds.
  const auto warm = [&] { return pair.stream(*line.bytes, kIperf3Piece); };
  std::vector<Way> ways{{name, theirs}, reference_way(pair)};
  if (!ucx) ways.push_back({"warm_stream", warm});
  const auto series = measure(ways, kExternalTurns, progress);
  if (series.status().code() == Code::kChecksum) return series.status();
  if (!series.ok()) {
    std::fprintf(stderr, "baton-bench: %s\n", series.status().to_string().c_str());
    line.also[name + "_GBps"] = nullptr;
    return ok_status();
  }
  add_also(line, name, series->front());
  const double external = median(series->front());
  line.also["reference_of_" + name] = rounded(external / median((*series)[1]));
  if (!ucx) line.also["warm_stream_of_" + name] = rounded(external / median((*series)[2]));
  return ok_status();
}

Status answer_one(Run& run, const Options& options, Spec spec) {
  Json parameters = pair_parameters(spec, options);
  run.progress.begin("handoff " + parameters.dump());
  spec.timeline = !options.timeline.empty();
  BATON_ASSIGN_OR_RETURN(const auto connect, other_host(options));
  BATON_ASSIGN_OR_RETURN(const auto pair, Pair::create(spec, connect));
  const uint32_t blocks = pair->side().pool().blocks();
  const auto once = [&]() -> Result<double> {
    BATON_ASSIGN_OR_RETURN(const Pair::Landed landed, pair->hand_off(1, blocks));
    return landed.seconds;
  };
  std::vector<Way> ways{{"handoff", once}, reference_way(*pair)};
  Memcpy memcpy(pair->side().pool().bytes());
  if (spec.channel == ChannelChoice::kLocal)
    ways.push_back({"memcpy", [&] { return memcpy.once(); }});
  if (spec.channel == ChannelChoice::kUcx)
    ways.push_back({"active_messages_NONE", [&] { return pair->ucx(UcxErrors::kNone); }});
  if (spec.cuda_device) ways.push_back(pcie_way(*pair));
  BATON_ASSIGN_OR_RETURN(const auto series, measure(ways, run.common.samples_or(7), run.progress));
  Line line{.name = "handoff",
            .parameters = std::move(parameters),
            .bytes = spec.bytes_of(blocks),
            .reference = reference_name(spec),
            .ours = series[0],
            .against = series[1],
            .blame = pair->usage.blame()};
  pair->usage.describe(line.also);
  for (size_t i = 2; i < series.size(); ++i) add_also(line, ways[i].name, series[i]);
  if (spec.cuda_device) {
    BATON_ASSIGN_OR_RETURN(line.also["gpu"], gpu_name(*spec.cuda_device));
  }
  if (options.external && spec.channel != ChannelChoice::kLocal)
    BATON_RETURN_IF_ERROR(add_external(line, *pair, run.progress));
  if (spec.timeline) {
    // One more handoff, alone in the recording.
    const size_t first = pair->side().timeline()->events().size();
    BATON_RETURN_IF_ERROR(pair->other_timeline().status());
    BATON_RETURN_IF_ERROR(once().status());
    BATON_RETURN_IF_ERROR(write_timeline(*pair, first, options.timeline));
  }
  run.report.add(line);
  return ok_status();
}

Status answer(const Options& options, Run& run) {
  BATON_ASSIGN_OR_RETURN(auto specs, pair_specs(options, run.common));
  BATON_ASSIGN_OR_RETURN(const auto memory, parse_memory(options.memory));
  for (Spec& spec : specs) {
    spec.cuda_device = memory;
    BATON_RETURN_IF_ERROR(answer_one(run, options, spec));
  }
  return ok_status();
}

}  // namespace

Question add_handoff(const Command& app) {
  auto options = std::make_shared<Options>();
  Command command = app.add_command("handoff", "how fast is one handoff over a channel");
  add_pair_options(command, *options);
  command.add_option("--memory", options->memory,
                     "of both engines' KV: host, cuda or cuda:N (host)");
  command.add_option("--timeline", options->timeline,
                     "writes one more handoff as a Perfetto/Chrome timeline into that file");
  command.add_flag("--external", options->external,
                   "compares the reference with iperf3 (tcp) or ucx_perftest (ucx), too");
  return {command, [options](Run& run) { return answer(*options, run); }};
}

}  // namespace baton::bench
