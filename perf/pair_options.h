// The options of questions that measure a pair of nodes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perf/bench.h"
#include "perf/pair.h"

namespace baton::bench {

struct PairOptions {
  std::string channel = "tcp";
  uint32_t layers = 32;
  std::string bytes = "256MiB";
  std::string block_bytes = "64KiB";
  uint32_t block_tokens = 16;
  std::string segment_bytes = "1MiB";
  std::string layout = "one-run";
  std::string mode = "transient";
  std::string model;
  std::string connect;
  Command command;
};

// With defaults of the question's own where they are set beforehand.
void add_pair_options(const Command& command, PairOptions& options);

// One spec for each block size.
Result<std::vector<Spec>> pair_specs(const PairOptions& options, const Common& common);
Result<uint64_t> handoff_bytes(const PairOptions& options);
Result<std::optional<HostPort>> other_host(const PairOptions& options);

// What every line of a pair says of it.
Json pair_parameters(const Spec& spec, const PairOptions& options);

// What the spec's channel is measured against, over the whole pool. Interleaved by measure().
Way reference_way(Pair& pair);
std::string reference_name(const Spec& spec);

}  // namespace baton::bench
