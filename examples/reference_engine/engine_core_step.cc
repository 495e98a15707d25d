#include <algorithm>

#include "examples/reference_engine/engine_core.h"

namespace baton::reference {

struct EngineCore::Batch {
  struct Item {
    Sequence* sequence;
    uint32_t tokens;
  };
  std::vector<Item> items;
};

bool EngineCore::compute() {
  const Batch batch = plan();
  std::vector<SequenceChunk> chunks;
  for (const auto& [sequence, tokens] : batch.items) {
    const uint32_t first = sequence->computed;
    chunks.push_back({std::span(sequence->tokens).subspan(first, tokens), first, sequence->blocks,
                      first + tokens == sequence->known()});
  }
  if (!chunks.empty()) {
    model_.forward(
        chunks, cache_.view(), [&](uint32_t layer) { layer_written(batch, layer); }, &logits_);
    steps_.Increment();
    size_t row = 0;
    const size_t vocab = model_.config().vocab;
    for (size_t i = 0; i < batch.items.size(); ++i) {
      std::span<const float> logits;
      if (chunks[i].want_logits) logits = std::span(logits_).subspan(row++ * vocab, vocab);
      advance(*batch.items[i].sequence, batch.items[i].tokens, logits);
    }
  }
  erase_ended();
  set_gauges();
  return !chunks.empty();
}

EngineCore::Batch EngineCore::plan() {
  std::vector<Sequence*> running;
  std::vector<BatchEntry> entries;
  for (auto& [id, sequence] : sequences_) {
    if (sequence->phase != Phase::kRunning) continue;
    running.push_back(sequence.get());
    entries.push_back({sequence->known(), sequence->computed,
                       static_cast<uint32_t>(sequence->blocks.size()), sequence->released()});
  }
  const StepPlan plan = plan_step(entries, {cache_.block_tokens(), cache_.free_blocks(),
                                            config_.prefill_tokens, config_.max_batch});
  for (const size_t victim : plan.preempted) preempt(*running[victim]);
  Batch batch;
  for (const StepPlan::Item& item : plan.items) {
    Sequence& sequence = *running[item.entry];
    const auto blocks = cache_.allocate(item.new_blocks);
    BATON_CHECK(blocks.has_value(), "a step was planned with more blocks than there are");
    sequence.blocks.insert(sequence.blocks.end(), blocks->begin(), blocks->end());
    batch.items.push_back({&sequence, item.tokens});
  }
  return batch;
}

void EngineCore::layer_written(const Batch& batch, uint32_t layer) {
  bool held = false;
  for (const auto& [sequence, tokens] : batch.items) {
    if (!sequence->prefill_open) continue;
    if (!held && config_.before_layer_ready) config_.before_layer_ready(layer);
    held = true;
    sequence->prefill->layer_ready(
        layer, std::min(sequence->computed + tokens, sequence->prompt_tokens()));
  }
}

void EngineCore::advance(Sequence& sequence, uint32_t tokens, std::span<const float> logits) {
  const uint32_t prompt = sequence.prompt_tokens();
  const uint32_t of_prompt =
      std::min(sequence.computed + tokens, prompt) - std::min(sequence.computed, prompt);
  sequence.prompt_tokens_computed += of_prompt;
  prompt_tokens_computed_.Increment(of_prompt);
  sequence.computed += tokens;
  if (sequence.prefill_open && sequence.computed >= prompt) {
    sequence.prefill_open = false;
    sequence.prefill->finish();
  }
  if (!logits.empty())
    add_token(sequence, sample_token(logits, sequence.request.sampling, sequence.known()));
}

void EngineCore::add_token(Sequence& sequence, uint32_t token) {
  if (sequence.generated() == 0) sequence.first_token = now();
  sequence.tokens.push_back(token);
  generated_tokens_.Increment();
  const bool more = sequence.sink->on_token(token);
  const bool eos = token == model_.config().eos && !sequence.request.ignore_eos;
  if (!more || eos)
    complete(sequence, Finish::kStop);
  else if (sequence.generated() >= sequence.request.max_tokens)
    complete(sequence, Finish::kLength);
}

void EngineCore::complete(Sequence& sequence, Finish finish) {
  sequence.finish = finish;
  const bool fetched_later = sequence.prefills_for_handoff() &&
                             sequence.request.transfer->peer.empty() && !sequence.released();
  if (fetched_later)
    sequence.phase = Phase::kPublishing;
  else
    end(sequence, ok_status());
}

}  // namespace baton::reference
