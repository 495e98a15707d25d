// How long does a small handoff take when nothing else is on its way? Against a control round trip
// and the bytes at the rate of a stream.
#include <algorithm>

#include "perf/pair_options.h"

namespace baton::bench {
namespace {

constexpr uint64_t kPoolBytes = 128u << 20;  // more than a cache, so that each sample's is cold
constexpr uint32_t kTrips = 10;
constexpr int kStreams = 5;

// Seconds that the bytes take at the rate of the reference for large handoffs.
Result<double> streaming_seconds(Pair& pair, uint64_t bytes) {
  const Way way = reference_way(pair);
  Series series;
  for (int i = 0; i <= kStreams; ++i) {
    BATON_ASSIGN_OR_RETURN(const double seconds, way.once());
    if (i > 0) series.push_back(seconds);
  }
  return median(series) * static_cast<double>(bytes) /
         static_cast<double>(pair.side().pool().bytes().size());
}

Status answer_one(Run& run, const PairOptions& options, Spec spec) {
  Json parameters = pair_parameters(spec, options);
  run.progress.begin("latency " + parameters.dump());
  const uint32_t blocks = spec.blocks_of(spec.pool_bytes);
  spec.pool_bytes = std::max(spec.pool_bytes, kPoolBytes);
  BATON_ASSIGN_OR_RETURN(const auto connect, other_host(options));
  BATON_ASSIGN_OR_RETURN(const auto pair, Pair::create(spec, connect));
  const uint64_t bytes = spec.bytes_of(blocks);
  BATON_ASSIGN_OR_RETURN(const double streaming, streaming_seconds(*pair, bytes));
  uint32_t slice = 0;
  const uint32_t slices = pair->side().pool().blocks() / blocks;
  const auto once = [&]() -> Result<double> {
    pair->reshuffle();
    BATON_ASSIGN_OR_RETURN(const Pair::Landed landed,
                           pair->hand_off(1, blocks, slice++ % slices * blocks));
    return landed.seconds;
  };
  const auto reference = [&]() -> Result<double> {
    BATON_ASSIGN_OR_RETURN(const double trip, pair->round_trip(kTrips));
    return trip + streaming;
  };
  constexpr uint32_t kWarmUp = 10;
  BATON_ASSIGN_OR_RETURN(const auto series,
                         measure({{"handoff", once}, {"round trip", reference}},
                                 run.common.samples_or(200), run.progress, kWarmUp));
  Line line{.name = "latency",
            .parameters = std::move(parameters),
            .bytes = bytes,
            .reference = "control round trip and the bytes at the rate of " + reference_name(spec),
            .ours = series[0],
            .against = series[1],
            .blame = pair->usage.blame()};
  pair->usage.describe(line.also);
  line.also["round_trip_us"] = rounded((median(series[1]) - streaming) * 1e6);
  line.also["streaming_us"] = rounded(streaming * 1e6);
  run.report.add(line);
  return ok_status();
}

Status answer(const PairOptions& options, Run& run) {
  BATON_ASSIGN_OR_RETURN(const auto specs, pair_specs(options, run.common));
  for (const Spec& spec : specs) BATON_RETURN_IF_ERROR(answer_one(run, options, spec));
  return ok_status();
}

}  // namespace

Question add_latency(const Command& app) {
  auto options = std::make_shared<PairOptions>();
  options->layers = 1;
  options->bytes = "1MiB";
  Command command =
      app.add_command("latency", "how long does a small handoff take when nothing else runs");
  add_pair_options(command, *options);
  return {command, [options](Run& run) { return answer(*options, run); }};
}

}  // namespace baton::bench
