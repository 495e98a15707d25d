// How many blocks of a workload trace does a host tier find? Against lru in a tier of the same
// size.
#include <charconv>
#include <filesystem>

#include "perf/bench.h"
#include "perf/replay.h"

namespace baton::bench {
namespace {

using scheduler::EvictionKind;

struct Options {
  std::string file;
  std::vector<std::string> policies{scheduler::eviction_name(scheduler::kDefaultEviction)};
  std::vector<std::string> capacities{"1k", "10k", "30k", "50k", "unlimited"};
  uint32_t block_tokens = 512;
};

constexpr uint64_t kMostCapacity = 1u << 24;

// "10000", "10k" (thousands are 1,000); nothing for "unlimited".
Result<std::optional<uint32_t>> parse_capacity(const std::string& text) {
  if (text == "unlimited") return std::optional<uint32_t>();
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const uint64_t times = unit.empty() ? 1 : unit == "k" ? 1'000 : unit == "M" ? 1'000'000 : 0;
  if (error != std::errc() || times == 0 || number == 0 || number > kMostCapacity / times)
    return Status(Code::kInvalidArgument,
                  "--capacity-blocks: '" + text + "' is not a number from 1 to " +
                      std::to_string(kMostCapacity) + ", such as 10k, nor unlimited");
  return std::optional<uint32_t>(static_cast<uint32_t>(number * times));
}

double percent(uint64_t part, uint64_t whole) {
  return static_cast<double>(part) * 100 / static_cast<double>(whole);
}

void report(Run& run, const WorkloadTrace& trace, const Json& parameters, const Replay& ours,
            const Replay& lru) {
  const double hit_percent = percent(ours.hits, trace.blocks());
  Json line = without_times("trace", parameters);
  line["bytes"] = ours.bytes;
  line["reference"] = "lru in a tier of the same size";
  line["ratio"] =
      lru.hits == 0 ? Json(nullptr)
                    : Json(rounded(static_cast<double>(ours.hits) / static_cast<double>(lru.hits)));
  line["samples"] = 1;
  line["also"] = {
      {"requests", trace.requests().size()},
      {"blocks", trace.blocks()},
      {"distinct_blocks", trace.distinct_blocks()},
      {"inserted", ours.inserted},
      {"skipped", ours.skipped},
      {"held_bytes", ours.held_bytes},
      {"reference_hit_percent", rounded(percent(lru.hits, trace.blocks()))},
      {"unlimited_hit_percent", rounded(percent(hits_without_bound(trace), trace.blocks()))}};
  line["hit_percent"] = rounded(hit_percent);
  // A tier that was not asked is null.
  line["hits"] = {{"host", ours.hits}, {"nvme", nullptr}, {"s3", nullptr}};
  line["evictions"] = ours.evictions;
  char figures[64];
  std::snprintf(figures, sizeof figures, "%8.2f %8.2f %10llu  ", hit_percent,
                percent(lru.hits, trace.blocks()), static_cast<unsigned long long>(ours.evictions));
  run.report.add(line,
                 "    hits      lru  evictions  % of all blocks, in the leading runs of requests",
                 figures + parameters.dump());
}

Status answer(const Options& options, Run& run) {
  std::vector<EvictionKind> policies;
  for (const std::string& text : options.policies) {
    const auto policy = scheduler::parse_eviction(text);
    if (!policy.ok())
      return Status(Code::kInvalidArgument, "--policy: " + policy.status().message());
    policies.push_back(*policy);
  }
  std::vector<std::optional<uint32_t>> capacities;
  for (const std::string& text : options.capacities) {
    BATON_ASSIGN_OR_RETURN(capacities.emplace_back(), parse_capacity(text));
  }
  BATON_ASSIGN_OR_RETURN(const WorkloadTrace trace,
                         WorkloadTrace::read(options.file, options.block_tokens));
  for (const EvictionKind policy : policies)
    for (const auto& capacity : capacities) {
      const Json parameters = {{"file", std::filesystem::path(options.file).filename().string()},
                               {"policy", scheduler::eviction_name(policy)},
                               {"capacity_blocks", capacity ? Json(*capacity) : Json(nullptr)},
                               {"block_tokens", options.block_tokens}};
      run.progress.begin("trace " + parameters.dump());
      BATON_ASSIGN_OR_RETURN(const Replay lru, replay(trace, EvictionKind::kLru, capacity));
      BATON_ASSIGN_OR_RETURN(const Replay ours,
                             replay(trace, policy, capacity, run.common.corrupt));
      report(run, trace, parameters, ours, lru);
    }
  return ok_status();
}

}  // namespace

Question add_trace(const Command& app) {
  auto options = std::make_shared<Options>();
  Command command =
      app.add_command("trace", "how many blocks of a workload trace does a host tier find");
  command
      .add_option("file", options->file,
                  "JSON lines of timestamp, input_length, output_length, hash_ids")
      .required();
  command
      .add_option("--policy", options->policies,
                  "which blocks leave first: lru, s3fifo, age-per-use, or several (age-per-use)")
      .delimiter(',');
  command
      .add_option("--capacity-blocks", options->capacities,
                  "blocks that the tier has room for, or unlimited (1k,10k,30k,50k,unlimited)")
      .delimiter(',');
  command.add_option("--block-tokens", options->block_tokens, "tokens of a block (512)")
      .range(1u, 1u << 20);
  return {command, [options](Run& run) { return answer(*options, run); }};
}

}  // namespace baton::bench
