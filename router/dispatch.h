// One request on its way: both legs, their failures, the answer.
//
// The prefiller and the decoder get the request at once. What may happen then:
//  - the prefiller's leg fails: the decoder's node is told at once, and its engine computes. An
//    answer of 4xx is no failure where the decoder says so too: the mistake is the client's;
//  - the decoder fails before the client was sent anything: another decoder takes over as the next
//    attempt of the same handoff. It fetches by key from the prefiller's node, so it is asked once
//    the prefiller has finished (what is not computed cannot be fetched); where the prefiller
//    failed too, or takes more than half of the time left, it computes by itself;
//  - the decoder fails after that: the stream ends with an error event;
//  - no decoder is healthy at its arrival: every unhealthy instance is probed once more before it
//    is refused, or computed by a decoder alone;
//  - the client leaves, the budget is over, or the router is cut short: both legs are cancelled.
//
// Confined to the loop's thread. Kept alive by the callbacks of its calls and timers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/answer.h"
#include "router/config.h"
#include "router/http/client.h"
#include "router/http/exchange.h"
#include "router/metrics.h"
#include "router/openai.h"
#include "router/registry.h"

namespace baton::router {

// What all requests share; outlives them.
struct DispatchContext {
  const RouterConfig& config;
  http::EventLoop& loop;
  http::Client& client;
  Registry& registry;
  RouterMetrics& metrics;
};

class Dispatch : public std::enable_shared_from_this<Dispatch> {
 public:
  // `on_end` is called once, when the client has its answer or has left.
  Dispatch(DispatchContext& context, std::shared_ptr<http::Exchange> exchange,
           CompletionRequest request, std::function<void()> on_end);

  // `turn`: the request's number, for scheduler/.
  void start(uint64_t turn);
  // Ends the request with `error` unless it has ended.
  void cut(const ApiError& error);

 private:
  enum class PrefillState { kNone, kRunning, kDone, kFailed, kRefused };

  // A request to one of the instances.
  struct Leg {
    std::optional<InstanceId> instance;
    std::shared_ptr<http::Call> call;  // while it runs
    uint64_t watch = 0;
    bool unhealthy = false;  // cancelled because its instance does not answer probes
  };

  void send_both();
  void send_leg(Leg& leg, Role role, InstanceId instance, std::string body,
                http::CallHandlers handlers);
  void end_leg(Leg& leg);
  void send_prefill();
  void prefill_ended(const http::CallEnd& end, int status);
  void judge_refusal();
  void prefill_failed(const std::string& reason, const std::string& happened);
  void send_decode(bool fetch);
  void decode_piece(std::string_view piece);
  void decode_ended(const http::CallEnd& end);
  void decoder_unhealthy();
  std::optional<InstanceId> other_decoder() const;
  void try_other_decoder(const ApiError& error);
  void send_retry();
  void tell_decoder_node(const std::string& reason);
  void finish(const char* end);
  void log_end(const char* end) const;

  Duration time_left() const { return deadline_ - now(); }
  KvTransferParams params(Role role, InstanceId peer) const;
  http::Headers debug_headers() const;

  DispatchContext& context_;
  const std::shared_ptr<http::Exchange> exchange_;
  const CompletionRequest request_;
  const std::function<void()> on_end_;
  const TimePoint arrival_ = now();
  const TimePoint deadline_;
  const HandoffId handoff_ = HandoffId::random();
  Answer answer_;

  uint64_t turn_ = 0;
  uint32_t attempt_ = 1;
  bool paired_ = false;  // the decoder at work counts on the prefiller
  bool waits_for_prefill_ = false;
  bool finished_ = false;
  PrefillState prefill_state_ = PrefillState::kNone;
  int prefill_status_ = 0;
  Leg prefill_;
  Leg decode_;
  std::string why_alone_;  // why the decoder at work does not count on a prefiller
  std::vector<InstanceId> failed_decoders_;
  std::optional<ApiError> last_error_;
  http::Timer budget_timer_;
  http::Timer wait_timer_;
};

}  // namespace baton::router
