// The engine without its thread: requests in, steps of the model, tokens out.
//
// First come, first served by free KV blocks; steps as batcher.h says. A preempted sequence is
// computed again from its tokens, and so gives the same ones. What a transfer uses is freed when
// the transfer has said so, and never before.
//
// Confined to one thread (engine.h's).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "examples/reference_engine/batcher.h"
#include "examples/reference_engine/generation.h"
#include "examples/reference_engine/kv_cache.h"
#include "examples/reference_engine/llama.h"
#include "examples/reference_engine/sequence.h"
#include "transfer/base/metrics.h"

namespace baton::reference {

struct EngineConfig {
  uint32_t prefill_tokens = 128;  // prompt tokens a step
  uint32_t max_batch = 16;        // sequences a step
  uint32_t max_queue = 256;       // requests that may wait; more are refused
  // Refuse an offer at once when the requests in line before it want more blocks than there are;
  // otherwise it waits for room until the node's accept deadline.
  bool refuse_when_full = true;
  // Look into the node's own tiers before computing a prompt, and keep there what was computed.
  bool reuse = false;
  // Called before layer_ready() in steps that hand a layer to a transfer; tests hold it there.
  std::function<void(uint32_t layer)> before_layer_ready;
};

class EngineCore {
 public:
  // Called on any thread, with a sequence's id; lead to transfer_changed / transfer_released.
  struct Hooks {
    std::function<void(uint64_t)> changed;
    std::function<void(uint64_t)> released;
  };
  // All outlive this; `transfers` may be null.
  EngineCore(Llama& model, KvCache& cache, EngineConfig config, KvTransfers* transfers, Hooks hooks,
             Metrics& metrics);
  // end_all(); transfers that have not released their blocks are left to their node.
  ~EngineCore();

  // `id` grows with every call.
  void add(uint64_t id, GenerationRequest request, std::unique_ptr<GenerationSink> sink,
           TimePoint now);
  // Nothing where the request has ended.
  void cancel(uint64_t id);
  void transfer_changed(uint64_t id);
  void transfer_released(uint64_t id);

  // Ends what is over its deadline and lets in what there is room for.
  void schedule(TimePoint now);
  // One step of the model; false where there was nothing to compute.
  bool compute();
  bool step(TimePoint now) {
    schedule(now);
    return compute();
  }
  // When schedule() must be called again although nothing has happened.
  std::optional<TimePoint> next_deadline() const;
  // Answers all requests with `why`.
  void end_all(const Status& why);

  uint32_t waiting() const;
  uint32_t running() const { return count(Phase::kRunning); }
  // Sequences whose blocks are held back by a transfer after the answer.
  uint32_t releasing() const { return count(Phase::kReleasing); }
  uint32_t count(Phase phase) const;

 private:
  using Sequences = std::map<uint64_t, std::unique_ptr<Sequence>>;

  // engine_core.cc
  void expire(TimePoint now);
  void admit(TimePoint now);
  bool take_blocks(Sequence& sequence, TimePoint now);
  void run(Sequence& sequence);
  void preempt(Sequence& sequence);
  void end(Sequence& sequence, const Status& status);
  void release_blocks(Sequence& sequence);
  void erase_ended();
  void set_gauges();
  void log_end(const Sequence& sequence, const GenerationEnd& end) const;

  // engine_core_step.cc
  struct Batch;
  Batch plan();
  void layer_written(const Batch& batch, uint32_t layer);
  void advance(Sequence& sequence, uint32_t tokens, std::span<const float> logits);
  void prompt_computed(Sequence& sequence);
  void add_token(Sequence& sequence, uint32_t token);
  void complete(Sequence& sequence, Finish finish);

  // engine_core_transfer.cc
  Status start_transfer(Sequence& sequence, TimePoint now);
  void start_reuse(Sequence& sequence, TimePoint now);
  void loaded(Sequence& sequence, uint32_t tokens);
  void compute_instead(Sequence& sequence, const Status& why);
  void close_transfer(Sequence& sequence, const Status& status);

  Llama& model_;
  KvCache& cache_;
  const EngineConfig config_;
  KvTransfers* const transfers_;
  const Hooks hooks_;

  Sequences sequences_;        // by arrival
  std::vector<float> logits_;  // of the last step

  prometheus::Counter& prompt_tokens_computed_;
  prometheus::Counter& generated_tokens_;
  prometheus::Counter& preemptions_;
  prometheus::Counter& steps_;
  prometheus::Gauge& running_gauge_;
  prometheus::Gauge& waiting_gauge_;
  prometheus::Gauge& free_blocks_gauge_;
  Metrics& metrics_;
};

}  // namespace baton::reference
