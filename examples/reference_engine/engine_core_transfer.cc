#include "examples/reference_engine/engine_core.h"
#include "transfer/base/log.h"

namespace baton::reference {

Status EngineCore::start_transfer(Sequence& sequence, TimePoint now) {
  const TransferParams& params = *sequence.request.transfer;
  if (transfers_ == nullptr)
    return Status(Code::kInvalidArgument,
                  "kv_transfer_params: this engine has no node (it was started without --node)");
  const Duration budget = sequence.request.deadline - now;
  const uint64_t id = sequence.id;
  const auto released = [post = hooks_.released, id] { post(id); };
  if (params.role == TransferRole::kPrefill) {
    BATON_ASSIGN_OR_RETURN(sequence.prefill,
                           transfers_->prefill(params, sequence.request.prompt, budget, released));
    ++sequence.users;
    return ok_status();
  }
  auto decode = transfers_->decode(
      params, sequence.request.prompt, budget, [post = hooks_.changed, id] { post(id); }, released);
  if (!decode.ok()) {
    if (decode.status().code() == Code::kInvalidArgument) return decode.status();
    // The handoff is not to be had (ended before, doubled, too many): the prompt still is.
    log::warn("request {} gets no handoff and is computed here: handoff={} why={}",
              sequence.request.name, params.handoff.to_string(), decode.status().to_string());
    return ok_status();
  }
  sequence.decode = std::move(decode).value();
  ++sequence.users;
  sequence.phase = Phase::kAwaiting;
  transfer_changed(id);
  return ok_status();
}

// What the node's own tiers have of the prompt is loaded, and what is computed kept there. Where
// either cannot be the prompt is computed as ever.
void EngineCore::start_reuse(Sequence& sequence, TimePoint now) {
  const Duration budget =
      std::min<Duration>(sequence.request.deadline - now, std::chrono::hours(1));
  const uint64_t id = sequence.id;
  const auto released = [post = hooks_.released, id] { post(id); };
  TransferParams own{
      .handoff = {HandoffId::random(), 1}, .flow = protocol::Flow::kFetch, .keep = true};
  if (sequence.request.transfer) own.salt = sequence.request.transfer->salt;
  if (!sequence.prefill) {
    auto keep = transfers_->prefill(own, sequence.request.prompt, budget, released);
    if (keep.ok()) {
      sequence.prefill = std::move(keep).value();
      ++sequence.users;
    }
  }
  own.handoff.id = HandoffId::random();
  auto load = transfers_->decode(
      own, sequence.request.prompt, budget, [post = hooks_.changed, id] { post(id); }, released);
  if (!load.ok())
    return log::warn("request {} does not look into the tiers: {}", sequence.request.name,
                     load.status().to_string());
  sequence.decode = std::move(load).value();
  sequence.own_load = true;
  ++sequence.users;
  sequence.phase = Phase::kAwaiting;
  transfer_changed(id);
}

void EngineCore::transfer_changed(uint64_t id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  Sequence& sequence = *found->second;
  if (!sequence.decode) return;
  const bool in_transfer = sequence.phase == Phase::kAwaiting ||
                           sequence.phase == Phase::kOffered || sequence.phase == Phase::kLoading;
  if (!in_transfer) return;
  const DecodeTransfer::Poll poll = sequence.decode->poll();
  switch (poll.state) {
    case DecodeTransfer::State::kWaiting:
    case DecodeTransfer::State::kLoading:
      break;
    case DecodeTransfer::State::kOffered:
      if (sequence.phase == Phase::kAwaiting) sequence.phase = Phase::kOffered;
      break;
    case DecodeTransfer::State::kLoaded:
      loaded(sequence, poll.tokens);
      break;
    case DecodeTransfer::State::kFailed:
      compute_instead(sequence, poll.why);
      break;
  }
}

void EngineCore::loaded(Sequence& sequence, uint32_t tokens) {
  BATON_CHECK(sequence.phase == Phase::kLoading && tokens <= sequence.prompt_tokens(),
              "loaded what was not accepted");
  // The last token is computed for its logits; its KV becomes the same bits again.
  sequence.computed = std::min(tokens, sequence.prompt_tokens() - 1);
  sequence.decode->done();
  run(sequence);
}

void EngineCore::compute_instead(Sequence& sequence, const Status& why) {
  log::log(sequence.own_load ? log::Level::kDebug : log::Level::kInfo,
           "request {} is computed here: handoff={} why={}", sequence.request.name,
           sequence.own_load ? "none" : sequence.request.transfer->handoff.to_string(),
           why.to_string());
  sequence.decode->abort(why.message());
  if (sequence.blocks.empty()) {
    sequence.phase = Phase::kQueued;
  } else {
    run(sequence);
  }
}

void EngineCore::close_transfer(Sequence& sequence, const Status& status) {
  const std::string why = status.ok() ? "ended" : status.message();
  if (sequence.prefill && (sequence.prefill_open || !status.ok())) {
    sequence.prefill_open = false;
    sequence.prefill->abort(why);
  }
  const bool in_transfer = sequence.phase == Phase::kAwaiting ||
                           sequence.phase == Phase::kOffered || sequence.phase == Phase::kLoading;
  if (sequence.decode && in_transfer) sequence.decode->abort(why);
}

void EngineCore::transfer_released(uint64_t id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  Sequence& sequence = *found->second;
  --sequence.users;
  if (!sequence.released()) return;
  if (sequence.prefills_for_handoff()) {
    const HandoffReport report = sequence.prefill->report();
    log::info("handoff {} left the engine's blocks: request={} end={} transport={} bytes={}{}{}",
              sequence.request.transfer->handoff.to_string(), sequence.request.name,
              report.end ? protocol::end_name(*report.end) : "none", report.transport, report.bytes,
              report.why.ok() ? "" : " why=", report.why.ok() ? "" : report.why.message());
  }
  if (sequence.phase == Phase::kPublishing) end(sequence, ok_status());
  if (sequence.phase == Phase::kReleasing) release_blocks(sequence);
  erase_ended();
  set_gauges();
}

}  // namespace baton::reference
