// One side of a measured pair: an engine's KV memory and a node over it. Both sides of a pair are
// made from the same Spec, in two processes.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "perf/kv_pool.h"
#include "perf/result.h"
#include "transfer/node.h"
#include "transfer/timeline.h"

namespace baton::bench {

struct Spec {
  ChannelChoice channel = ChannelChoice::kTcp;
  std::string layout = "one-run";
  uint64_t block_bytes = 64u << 10;
  uint32_t block_tokens = 16;
  uint32_t layers = 32;
  uint64_t segment_bytes = 1u << 20;  // one block at least
  uint64_t pool_bytes = 0;            // of KV memory, all layers
  bool retained = false;
  bool checked = true;  // false: copies without a checksum, to see what it costs
  bool timeline = false;
  std::optional<uint32_t> cuda_device;  // the KV memory's GPU; none: host memory
  std::string host = "127.0.0.1";       // that the receiving node listens at
  bool corrupt = false;                 // test seam: the receiver damages what it received

  Json to_json() const;
  static Result<Spec> from_json(const Json& json);

  uint32_t chunk_tokens() const {
    return block_tokens * static_cast<uint32_t>(std::max<uint64_t>(1, segment_bytes / block_bytes));
  }
  // Blocks of a prompt whose KV has that many bytes in all layers, at least one.
  uint32_t blocks_of(uint64_t bytes) const {
    return static_cast<uint32_t>(std::max<uint64_t>(1, bytes / layers / block_bytes));
  }
  uint64_t bytes_of(uint32_t blocks) const { return uint64_t{blocks} * layers * block_bytes; }
};

class Side {
 public:
  // `sends`: fills its KV memory and, where retained, has a retained arena.
  static Result<std::unique_ptr<Side>> create(const Spec& spec, bool sends);

  const Spec& spec() const { return spec_; }
  KvPool& pool() { return *pool_; }
  Node& node() { return *node_; }
  const Timeline* timeline() const { return timeline_.get(); }
  // Seconds that the node's handoffs have spent in each stage so far.
  Json stage_seconds() const;

 private:
  explicit Side(Spec spec) : spec_(std::move(spec)) {}

  const Spec spec_;
  std::unique_ptr<KvPool> pool_;
  std::unique_ptr<Timeline> timeline_;
  std::unique_ptr<Node> node_;  // before the memory that it copies from and to
};

// CPU seconds of this process, all threads.
double cpu_seconds();
// A prompt of so many tokens.
std::vector<uint32_t> prompt_tokens(uint32_t tokens);

}  // namespace baton::bench
