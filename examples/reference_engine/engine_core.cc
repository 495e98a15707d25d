#include "examples/reference_engine/engine_core.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

#include "transfer/base/log.h"

namespace baton::reference {

EngineCore::EngineCore(Llama& model, KvCache& cache, EngineConfig config, KvTransfers* transfers,
                       Hooks hooks, Metrics& metrics)
    : model_(model),
      cache_(cache),
      config_(std::move(config)),
      transfers_(transfers),
      hooks_(std::move(hooks)),
      prompt_tokens_computed_(metrics.counter("baton_prompt_tokens_computed_total",
                                              "Prompt tokens that this engine computed itself")),
      generated_tokens_(metrics.counter("baton_engine_generated_tokens_total", "Tokens generated")),
      preemptions_(metrics.counter("baton_engine_preemptions_total",
                                   "Sequences that gave up their blocks to an older one")),
      steps_(metrics.counter("baton_engine_steps_total", "Forward passes")),
      running_gauge_(
          metrics.gauge("baton_engine_running_sequences", "Requests that hold blocks and compute")),
      waiting_gauge_(
          metrics.gauge("baton_engine_waiting_sequences", "Requests that have not begun")),
      free_blocks_gauge_(metrics.gauge("baton_engine_free_kv_blocks", "KV blocks nobody holds")),
      metrics_(metrics) {
  set_gauges();
}

EngineCore::~EngineCore() { end_all(Status(Code::kUnavailable, "the engine is shutting down")); }

void EngineCore::add(uint64_t id, GenerationRequest request, std::unique_ptr<GenerationSink> sink,
                     TimePoint now) {
  auto owned = std::make_unique<Sequence>();
  Sequence& sequence = *owned;
  sequence.id = id;
  sequence.request = std::move(request);
  sequence.sink = std::move(sink);
  sequence.tokens = sequence.request.prompt;
  sequence.arrived = now;
  sequences_.emplace(id, std::move(owned));
  if (sequence.request.transfer) {
    if (const Status status = start_transfer(sequence, now); !status.ok()) end(sequence, status);
  }
  if (config_.reuse && transfers_ != nullptr && sequence.phase == Phase::kQueued)
    start_reuse(sequence, now);
  erase_ended();
  set_gauges();
}

void EngineCore::cancel(uint64_t id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end() || found->second->phase == Phase::kReleasing) return;
  end(*found->second, Status(Code::kCancelled, "the client is gone"));
  erase_ended();
  set_gauges();
}

std::optional<TimePoint> EngineCore::next_deadline() const {
  std::optional<TimePoint> next;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->phase == Phase::kReleasing || sequence->request.deadline == TimePoint::max())
      continue;
    next = std::min(next.value_or(TimePoint::max()), sequence->request.deadline);
  }
  return next;
}

void EngineCore::end_all(const Status& why) {
  for (auto& [id, sequence] : sequences_)
    if (sequence->phase != Phase::kReleasing) end(*sequence, why);
  erase_ended();
  set_gauges();
}

uint32_t EngineCore::waiting() const {
  return static_cast<uint32_t>(std::count_if(
      sequences_.begin(), sequences_.end(), [](const auto& item) { return item.second->waits(); }));
}

uint32_t EngineCore::count(Phase phase) const {
  return static_cast<uint32_t>(
      std::count_if(sequences_.begin(), sequences_.end(),
                    [phase](const auto& item) { return item.second->phase == phase; }));
}

void EngineCore::schedule(TimePoint now) {
  expire(now);
  admit(now);
  erase_ended();
  set_gauges();
}

void EngineCore::expire(TimePoint now) {
  for (auto& [id, sequence] : sequences_)
    if (sequence->phase != Phase::kReleasing && sequence->request.deadline <= now)
      end(*sequence, Status(Code::kDeadlineExceeded, "the request's time budget is used up"));
}

void EngineCore::admit(TimePoint now) {
  uint64_t ahead = 0;  // blocks that older requests wait for; the younger do not overtake them
  for (auto& [id, owned] : sequences_) {
    Sequence& sequence = *owned;
    if (sequence.phase != Phase::kQueued && sequence.phase != Phase::kOffered) continue;
    if (sequence.phase == Phase::kQueued && running() >= config_.max_batch) continue;
    if (ahead == 0 && take_blocks(sequence, now)) continue;
    const uint32_t need = cache_.blocks_for(sequence.known());
    if (sequence.phase == Phase::kOffered && config_.refuse_when_full &&
        ahead + need > cache_.blocks()) {
      sequence.decode->refuse("no room: " + std::to_string(need) + " KV blocks wanted, " +
                              std::to_string(ahead) + " waited for by others, " +
                              std::to_string(cache_.free_blocks()) + " free of " +
                              std::to_string(cache_.blocks()));
      sequence.phase = Phase::kAwaiting;  // of its failure, which follows
      continue;
    }
    ahead += need;
  }
}

bool EngineCore::take_blocks(Sequence& sequence, TimePoint now) {
  const uint32_t need = cache_.blocks_for(sequence.known());
  if (!room_for(need, cache_.free_blocks(), running() + count(Phase::kLoading))) return false;
  sequence.blocks = std::move(*cache_.allocate(need));
  if (sequence.admitted == TimePoint()) sequence.admitted = now;
  if (sequence.phase == Phase::kOffered) {
    sequence.phase = Phase::kLoading;
    sequence.decode->accept(sequence.blocks);
    return true;
  }
  run(sequence);
  return true;
}

// It has its blocks, and the KV of `computed` tokens in them.
void EngineCore::run(Sequence& sequence) {
  sequence.phase = Phase::kRunning;
  if (!sequence.prefill || std::exchange(sequence.prefill_begun, true)) return;
  sequence.prefill_open = true;
  sequence.prefill->begin(sequence.blocks, sequence.computed);
}

void EngineCore::preempt(Sequence& sequence) {
  preemptions_.Increment();
  ++sequence.preemptions;
  log::info("request {} preempted after {} tokens, to be computed again", sequence.request.name,
            sequence.generated());
  if (std::exchange(sequence.prefill_open, false)) sequence.prefill->abort("preempted");
  release_blocks(sequence);
  sequence.computed = 0;
  sequence.phase = Phase::kQueued;
}

void EngineCore::end(Sequence& sequence, const Status& status) {
  close_transfer(sequence, status);
  GenerationEnd end;
  end.status = status;
  end.finish = sequence.finish;
  end.prompt_tokens = sequence.prompt_tokens();
  end.completion_tokens = sequence.generated();
  end.prompt_tokens_computed = sequence.prompt_tokens_computed;
  if (sequence.decode) end.handoff = sequence.decode->report();
  if (sequence.prefills_for_handoff()) end.handoff = sequence.prefill->report();
  sequence.phase = Phase::kReleasing;
  metrics_
      .counter("baton_engine_requests_ended_total", "Requests that ended, by how",
               {{"end", status.ok() ? "ok" : code_name(status.code())}})
      .Increment();
  log_end(sequence, end);
  sequence.sink->on_end(end);
  sequence.sink.reset();
  if (sequence.released()) release_blocks(sequence);
}

void EngineCore::release_blocks(Sequence& sequence) {
  cache_.free(sequence.blocks);
  sequence.blocks.clear();
}

void EngineCore::erase_ended() {
  std::erase_if(sequences_, [](const auto& item) {
    return item.second->phase == Phase::kReleasing && item.second->released();
  });
}

void EngineCore::set_gauges() {
  running_gauge_.Set(running());
  waiting_gauge_.Set(waiting());
  free_blocks_gauge_.Set(cache_.free_blocks());
}

void EngineCore::log_end(const Sequence& sequence, const GenerationEnd& end) const {
  const TimePoint ended = now();
  // What never came is left out.
  const auto since_arrival = [&](const char* name, TimePoint at) {
    return at == TimePoint() ? "" : fmt::format(" {}={:.1f}", name, to_ms(at - sequence.arrived));
  };
  log::info(
      "request {} ended: end={} prompt_tokens={} prompt_tokens_computed={} completion_tokens={}"
      "{}{}{} preemptions={} handoff={}{}{}",
      sequence.request.name, end.status.ok() ? "ok" : code_name(end.status.code()),
      end.prompt_tokens, end.prompt_tokens_computed, end.completion_tokens,
      since_arrival("admitted_ms", sequence.admitted),
      since_arrival("first_token_ms", sequence.first_token), since_arrival("total_ms", ended),
      sequence.preemptions,
      sequence.request.transfer ? sequence.request.transfer->handoff.to_string() : "none",
      end.status.ok() ? "" : " why=", end.status.ok() ? "" : end.status.message());
}

}  // namespace baton::reference
