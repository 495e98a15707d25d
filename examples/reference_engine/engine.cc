#include "examples/reference_engine/engine.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "transfer/base/mutex.h"

namespace baton::reference {
namespace {

struct Submitted {
  uint64_t id;
  GenerationRequest request;
  std::unique_ptr<GenerationSink> sink;
};
struct Cancelled {
  uint64_t id;
};
struct TransferChanged {
  uint64_t id;
};
struct TransferReleased {
  uint64_t id;
};
using Event = std::variant<Submitted, Cancelled, TransferChanged, TransferReleased>;

// Hands an event to the core.
struct Deliver {
  EngineCore& core;
  void operator()(Submitted& event) {
    core.add(event.id, std::move(event.request), std::move(event.sink), now());
  }
  void operator()(const Cancelled& event) { core.cancel(event.id); }
  void operator()(const TransferChanged& event) { core.transfer_changed(event.id); }
  void operator()(const TransferReleased& event) { core.transfer_released(event.id); }
};

}  // namespace

struct Engine::Inbox {
  Mutex mutex;
  CondVar wake;
  std::vector<Event> events BATON_GUARDED_BY(mutex);
  uint64_t next_id BATON_GUARDED_BY(mutex) = 1;
  // Requests that have not begun: in `events`, and in the core as of its last look.
  uint32_t waiting BATON_GUARDED_BY(mutex) = 0;
  bool stopping BATON_GUARDED_BY(mutex) = false;

  void count_waiting(const EngineCore& core) BATON_REQUIRES(mutex) {
    waiting = core.waiting();
    for (const Event& event : events) waiting += std::holds_alternative<Submitted>(event);
  }
  void post(Event event) BATON_EXCLUDES(mutex) {
    MutexLock lock(mutex);
    events.push_back(std::move(event));
    wake.notify_one();
  }
};

Engine::Engine(Llama& model, KvCache& cache, EngineConfig config, KvTransfers* transfers,
               Metrics& metrics)
    : model_(model),
      cache_(cache),
      config_(std::move(config)),
      transfers_(transfers),
      metrics_(metrics),
      inbox_(std::make_shared<Inbox>()),
      thread_([this] { run(); }) {}

Engine::~Engine() { stop(); }

uint64_t Engine::longest_answer(uint64_t prompt_tokens) const {
  const uint64_t context = model_.config().context;
  const uint64_t cached = uint64_t{cache_.blocks()} * cache_.block_tokens();
  if (prompt_tokens >= context || prompt_tokens > cached) return 0;
  // The last token of an answer is never computed, so it needs no place in the cache.
  return std::min(context - prompt_tokens, cached - prompt_tokens + 1);
}

Status Engine::check(uint64_t prompt_tokens, uint64_t max_tokens) const {
  if (max_tokens <= longest_answer(prompt_tokens)) return ok_status();
  const uint64_t context = model_.config().context;
  const uint64_t cached = uint64_t{cache_.blocks()} * cache_.block_tokens();
  const std::string wanted = std::to_string(prompt_tokens) + " prompt tokens and " +
                             std::to_string(max_tokens) + " of answer";
  if (prompt_tokens + max_tokens > context)
    return Status(Code::kInvalidArgument, "the model's context is " + std::to_string(context) +
                                              " tokens, but " + wanted + " were asked for");
  return Status(Code::kInvalidArgument, "the KV cache holds " + std::to_string(cached) +
                                            " tokens (" + std::to_string(cache_.blocks()) +
                                            " blocks of " + std::to_string(cache_.block_tokens()) +
                                            "), but " + wanted + " were asked for");
}

Result<uint64_t> Engine::submit(GenerationRequest request, std::unique_ptr<GenerationSink> sink) {
  MutexLock lock(inbox_->mutex);
  if (inbox_->stopping) return Status(Code::kUnavailable, "the engine is shutting down");
  if (inbox_->waiting >= config_.max_queue)
    return Status(
        Code::kResourceExhausted,
        "the queue is full: " + std::to_string(inbox_->waiting) + " requests wait already");
  const uint64_t id = inbox_->next_id++;
  ++inbox_->waiting;
  inbox_->events.push_back(Submitted{id, std::move(request), std::move(sink)});
  inbox_->wake.notify_one();
  return id;
}

void Engine::cancel(uint64_t id) { inbox_->post(Cancelled{id}); }

void Engine::stop() {
  {
    MutexLock lock(inbox_->mutex);
    inbox_->stopping = true;
    inbox_->wake.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Engine::run() {
  EngineCore::Hooks hooks;
  hooks.changed = [inbox = inbox_](uint64_t id) { inbox->post(TransferChanged{id}); };
  hooks.released = [inbox = inbox_](uint64_t id) { inbox->post(TransferReleased{id}); };
  EngineCore core(model_, cache_, config_, transfers_, std::move(hooks), metrics_);
  bool busy = false;
  while (wait(core, busy)) {
    take_events(core);
    core.schedule(now());
    {
      MutexLock lock(inbox_->mutex);
      inbox_->count_waiting(core);
    }
    busy = core.compute();
  }
  take_events(core);
  core.end_all(Status(Code::kUnavailable, "the engine is shutting down"));
}

bool Engine::wait(const EngineCore& core, bool busy) {
  MutexLock lock(inbox_->mutex);
  inbox_->count_waiting(core);
  while (!busy && inbox_->events.empty() && !inbox_->stopping) {
    const std::optional<TimePoint> deadline = core.next_deadline();
    if (!deadline)
      inbox_->wake.wait(inbox_->mutex);
    else if (!inbox_->wake.wait_until(inbox_->mutex, *deadline))
      break;
  }
  return !inbox_->stopping;
}

void Engine::take_events(EngineCore& core) {
  std::vector<Event> events;
  {
    MutexLock lock(inbox_->mutex);
    events.swap(inbox_->events);
  }
  for (Event& event : events) std::visit(Deliver{core}, event);
}

}  // namespace baton::reference
