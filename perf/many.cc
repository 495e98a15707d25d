// What do many handoffs at once cost, against the same bytes as one? And what does a small one wait
// for beside a large one (--mix)?
#include <algorithm>

#include "perf/pair_options.h"
#include "perf/sizes.h"

namespace baton::bench {
namespace {

struct Options : PairOptions {
  uint32_t count = 256;
  bool mix = false;
  std::string beside = "2GiB";
};

// A small handoff may wait for so many segments of the large one.
constexpr double kSegmentsAllowed = 4;
constexpr uint32_t kSlices = 64;  // of small handoffs: none finds its memory in a cache
constexpr uint32_t kAlone = 20;   // small ones between two large ones
constexpr int kMostFruitless = 5;

Status many_at_once(Run& run, const Options& options, Spec spec) {
  Json parameters = pair_parameters(spec, options);
  parameters["count"] = options.count;
  run.progress.begin("many " + parameters.dump());
  const uint32_t blocks = spec.blocks_of(spec.pool_bytes);
  spec.pool_bytes = spec.bytes_of(blocks) * options.count;
  BATON_ASSIGN_OR_RETURN(const auto connect, other_host(options));
  BATON_ASSIGN_OR_RETURN(const auto pair, Pair::create(spec, connect));
  Usage usage;  // without the one that they are compared with
  const auto many = [&]() -> Result<double> {
    std::swap(usage, pair->usage);
    const auto landed = pair->hand_off(options.count, blocks);
    std::swap(usage, pair->usage);
    if (!landed.ok()) return landed.status();
    return landed.value().seconds;
  };
  const auto one = [&]() -> Result<double> {
    BATON_ASSIGN_OR_RETURN(const Pair::Landed landed, pair->hand_off(1, options.count * blocks));
    return landed.seconds;
  };
  BATON_ASSIGN_OR_RETURN(const auto series, measure({{"many", many}, {"as one", one}},
                                                    run.common.samples_or(9), run.progress));
  Line line{.name = "many",
            .parameters = std::move(parameters),
            .bytes = spec.pool_bytes,
            .reference = "the same bytes as one handoff",
            .ours = series[0],
            .against = series[1],
            .blame = usage.blame()};
  usage.describe(line.also);
  run.report.add(line);
  return ok_status();
}

// Small handoffs one after the other, alone and while a large one is on its way.
class Mix {
 public:
  Mix(Pair& pair, uint32_t blocks, uint32_t large_blocks)
      : pair_(pair), blocks_(blocks), large_blocks_(large_blocks) {}

  Series alone, beside;
  Series large;  // seconds of the large ones that had small ones beside them

  Status round(uint32_t wanted) {
    pair_.reshuffle();
    for (uint32_t i = 0; i < kAlone; ++i) {
      BATON_ASSIGN_OR_RETURN(const double seconds, small());
      alone.push_back(seconds);
    }
    BATON_ASSIGN_OR_RETURN(auto flight, pair_.begin(1, large_blocks_, 0));
    while (beside.size() < wanted && !flight->over()) {
      BATON_ASSIGN_OR_RETURN(const double seconds, small());
      if (!flight->over()) beside.push_back(seconds);
    }
    BATON_ASSIGN_OR_RETURN(const Pair::Landed landed, pair_.finish(std::move(flight)));
    large.push_back(landed.seconds);
    return ok_status();
  }

 private:
  Result<double> small() {
    BATON_ASSIGN_OR_RETURN(auto flight,
                           pair_.begin(1, blocks_, large_blocks_ + slice_++ % kSlices * blocks_));
    BATON_ASSIGN_OR_RETURN(const Pair::Landed landed, pair_.finish(std::move(flight)));
    return landed.seconds;
  }

  Pair& pair_;
  const uint32_t blocks_;
  const uint32_t large_blocks_;
  uint32_t slice_ = 0;
};

Status small_beside_large(Run& run, const Options& options, Spec spec) {
  BATON_ASSIGN_OR_RETURN(const uint64_t large_bytes, parse_bytes(options.beside));
  Json parameters = pair_parameters(spec, options);
  parameters["beside_bytes"] = large_bytes;
  run.progress.begin("many --mix " + parameters.dump());
  const uint32_t blocks = spec.blocks_of(spec.pool_bytes);
  const uint32_t large_blocks = spec.blocks_of(large_bytes);
  const uint64_t bytes = spec.bytes_of(blocks);
  spec.pool_bytes = spec.bytes_of(large_blocks) + kSlices * bytes;
  BATON_ASSIGN_OR_RETURN(const auto connect, other_host(options));
  BATON_ASSIGN_OR_RETURN(const auto pair, Pair::create(spec, connect));
  BATON_ASSIGN_OR_RETURN(const Pair::Landed large_alone, pair->hand_off(1, large_blocks));
  Mix mix(*pair, blocks, large_blocks);
  const uint32_t wanted = run.common.samples_or(200);
  int fruitless = 0;
  while (mix.beside.size() < wanted) {
    const size_t before = mix.beside.size();
    run.progress.step(static_cast<uint32_t>(before), wanted);
    BATON_RETURN_IF_ERROR(mix.round(wanted));
    fruitless = mix.beside.size() == before ? fruitless + 1 : 0;
    if (fruitless == kMostFruitless)
      return Status(Code::kInvalidArgument, "no small handoff ended while the large one of " +
                                                options.beside + " ran: take a larger --beside");
  }
  const double segment_seconds = large_alone.seconds * static_cast<double>(spec.segment_bytes) /
                                 static_cast<double>(spec.bytes_of(large_blocks));
  Series allowed = mix.alone;
  for (double& seconds : allowed) seconds += kSegmentsAllowed * segment_seconds;
  Line line{.name = "many",
            .parameters = std::move(parameters),
            .bytes = bytes,
            .reference = "p99 of the small one alone and 4 segment times of the large one",
            .ours = mix.beside,
            .against = allowed,
            .at = 0.99,
            .blame = "send"};
  line.parameters["mix"] = true;
  line.also["alone_median_ms"] = rounded(median(mix.alone) * 1e3);
  line.also["alone_p99_ms"] = rounded(quantile(mix.alone, 0.99) * 1e3);
  line.also["segment_ms"] = rounded(segment_seconds * 1e3);
  line.also["reference_p99_ms"] = rounded(quantile(allowed, 0.99) * 1e3);
  line.also["large_alone_ms"] = rounded(large_alone.seconds * 1e3);
  line.also["large_beside_ms"] = rounded(median(mix.large) * 1e3);
  run.report.add(line);
  return ok_status();
}

Status answer(const Options& options, Run& run) {
  BATON_ASSIGN_OR_RETURN(const auto specs, pair_specs(options, run.common));
  for (const Spec& spec : specs)
    BATON_RETURN_IF_ERROR(options.mix ? small_beside_large(run, options, spec)
                                      : many_at_once(run, options, spec));
  return ok_status();
}

}  // namespace

Question add_many(const Command& app) {
  auto options = std::make_shared<Options>();
  options->layers = 1;
  options->bytes = "1MiB";
  Command command =
      app.add_command("many", "what do many handoffs at once cost, or a small one beside a large");
  add_pair_options(command, *options);
  command.add_option("--count", options->count, "handoffs at once (256)").range(1u, 2048u);
  command.add_flag("--mix", options->mix, "one of --bytes at a time, beside one of --beside");
  command.add_option("--beside", options->beside, "bytes of the large one of --mix (2GiB)");
  return {command, [options](Run& run) { return answer(*options, run); }};
}

}  // namespace baton::bench
