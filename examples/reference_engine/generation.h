// A request as the engine sees it, and whom it tells what became of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "examples/reference_engine/kv_transfer.h"
#include "examples/reference_engine/sampler.h"
#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/handoff_report.h"

namespace baton::reference {

// Plain value. The caller has checked tokens (below the vocabulary), lengths (prompt and answer fit
// the context and the whole KV cache: Engine::check) and sampling.
struct GenerationRequest {
  std::string name;              // in logs: "cmpl-…"
  std::vector<uint32_t> prompt;  // not empty
  uint32_t max_tokens = 16;      // at least 1
  SamplingParams sampling;
  bool ignore_eos = false;
  TimePoint deadline = TimePoint::max();  // for all of it
  std::optional<TransferParams> transfer;
};

enum class Finish : uint8_t { kStop, kLength };

struct GenerationEnd {
  Status status;  // ok, or why there is no (whole) answer; kCancelled: nobody wants it any more
  Finish finish = Finish::kLength;
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
  uint32_t prompt_tokens_computed = 0;  // here; those computed again after a preemption count again
  // What is known of the handoff by now; unset without one.
  std::optional<HandoffReport> handoff;
};

// Called on the engine's thread; must not block.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  // False: enough; the generation then ends with Finish::kStop.
  virtual bool on_token(uint32_t token) = 0;
  // Once, last.
  virtual void on_end(const GenerationEnd& end) = 0;
};

}  // namespace baton::reference
