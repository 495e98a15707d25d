// The engine's thread: takes requests from any thread and runs EngineCore over them.
//
// Thread-safe. Sinks are called on the engine's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <thread>

#include "examples/reference_engine/engine_core.h"

namespace baton::reference {

class Engine {
 public:
  // As EngineCore's; all outlive this, and the node behind `transfers` may outlive it too: what it
  // says later is dropped.
  Engine(Llama& model, KvCache& cache, EngineConfig config, KvTransfers* transfers,
         Metrics& metrics);
  // stop().
  ~Engine();

  // Whether such a request could ever be served: kInvalidArgument naming the numbers.
  Status check(uint64_t prompt_tokens, uint64_t max_tokens) const;
  // The most tokens that can follow such a prompt; 0 where not even one can.
  uint64_t longest_answer(uint64_t prompt_tokens) const;

  // Returns the request's id for cancel(). Errors: kResourceExhausted (max_queue requests wait),
  // kUnavailable (stopped); the sink is then never called.
  Result<uint64_t> submit(GenerationRequest request, std::unique_ptr<GenerationSink> sink);
  // The request ends with kCancelled unless it has ended already.
  void cancel(uint64_t id);

  // Answers everything with kUnavailable and ends the thread, after the step that runs. Once is
  // enough.
  void stop();

 private:
  struct Inbox;
  void run();
  void take_events(EngineCore& core);
  // Sleeps until there is something to do; false when stopping.
  bool wait(const EngineCore& core, bool busy);

  Llama& model_;
  KvCache& cache_;
  const EngineConfig config_;
  KvTransfers* const transfers_;
  Metrics& metrics_;
  const std::shared_ptr<Inbox> inbox_;  // callbacks of transfers may hold it longer than we live
  std::thread thread_;
};

}  // namespace baton::reference
