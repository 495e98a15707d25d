// What does the checksum cost a handoff? The same handoff with it and without it, in turns, between
// two pairs of processes; beside it, the checksum of as many bytes as a pass of its own.
#include "kernels/checksum.h"

#include "perf/pair_options.h"

namespace baton::bench {
namespace {

Result<double> hand_off_all(Pair& pair) {
  BATON_ASSIGN_OR_RETURN(const Pair::Landed landed, pair.hand_off(1, pair.side().pool().blocks()));
  return landed.seconds;
}

// By one thread, segment by segment, of memory that no cache holds.
Result<double> own_pass(Pair& pair) {
  const std::span<const std::byte> bytes = pair.side().pool().bytes();
  const size_t piece = pair.spec().segment_bytes;
  uint64_t sum = 0;
  const double began = seconds_now();
  for (size_t at = 0; at < bytes.size(); at += piece)
    sum += checksum({at, piece}, bytes.data() + at, std::min(piece, bytes.size() - at)).value;
  const double seconds = seconds_now() - began;
  asm volatile("" : : "r"(sum));  // is computed
  return seconds;
}

Status answer_one(Run& run, const PairOptions& options, const Spec& spec) {
  Json parameters = pair_parameters(spec, options);
  run.progress.begin("checksum " + parameters.dump());
  BATON_ASSIGN_OR_RETURN(const auto connect, other_host(options));
  Spec bare = spec;
  bare.checked = false;
  BATON_ASSIGN_OR_RETURN(const auto on, Pair::create(spec, connect));
  BATON_ASSIGN_OR_RETURN(const auto off, Pair::create(bare, std::nullopt));
  BATON_ASSIGN_OR_RETURN(const auto series,
                         measure({{"with", [&] { return hand_off_all(*on); }},
                                  {"without", [&] { return hand_off_all(*off); }},
                                  {"a pass of its own", [&] { return own_pass(*on); }}},
                                 run.common.samples_or(9), run.progress));
  Line line{.name = "checksum",
            .parameters = std::move(parameters),
            .bytes = on->side().pool().bytes().size(),
            .reference = "the same handoff without a checksum",
            .ours = series[0],
            .against = series[1],
            .blame = on->usage.blame()};
  on->usage.describe(line.also);
  const double pass = median(series[2]);
  line.also["own_pass_GBps"] =
      rounded(static_cast<double>(on->side().pool().bytes().size()) / pass / 1e9);
  // On each side, if nothing else went on meanwhile.
  line.also["own_pass_ratio"] = rounded(median(line.against) / (median(line.against) + pass));
  run.report.add(line);
  return ok_status();
}

Status answer(const PairOptions& options, Run& run) {
  if (!options.connect.empty())
    return Status(Code::kInvalidArgument, "checksum measures two pairs on this host only");
  BATON_ASSIGN_OR_RETURN(const auto specs, pair_specs(options, run.common));
  for (const Spec& spec : specs) BATON_RETURN_IF_ERROR(answer_one(run, options, spec));
  return ok_status();
}

}  // namespace

Question add_checksum(const Command& app) {
  auto options = std::make_shared<PairOptions>();
  options->channel = "local";
  Command command = app.add_command("checksum", "what does the checksum cost a handoff");
  add_pair_options(command, *options);
  return {command, [options](Run& run) { return answer(*options, run); }};
}

}  // namespace baton::bench
