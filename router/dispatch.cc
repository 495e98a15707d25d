#include "router/dispatch.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "transfer/base/log.h"

namespace baton::router {
namespace {

using scheduler::choose_instance;
using scheduler::choose_pair;

// For a prefiller that is about to answer when the decoder's answer has ended; one that is far
// from it works for nobody any more.
constexpr auto kPrefillGrace = std::chrono::milliseconds(250);
constexpr auto kTellDeadline = std::chrono::seconds(2);

// For metrics: few values.
std::string reason_of(const http::CallEnd& end, int status, bool unhealthy) {
  if (unhealthy) return "unhealthy";
  if (end.status.ok()) return "http_" + std::to_string(status);
  if (end.status.code() == Code::kDeadlineExceeded) {
    return end.stage == http::CallStage::kConnecting ? "connect" : "deadline";
  }
  return end.stage == http::CallStage::kConnecting ? "connect" : "connection_lost";
}

// For people: what became of the leg, and what this was concluded from.
std::string what_happened(const http::CallEnd& end, int status, bool unhealthy) {
  if (unhealthy) return "it does not answer health probes any more";
  if (end.status.ok()) return "it answered " + std::to_string(status);
  if (end.status.code() == Code::kProtocol) return "its answer is no HTTP: " + end.status.message();
  const bool late = end.status.code() == Code::kDeadlineExceeded;
  switch (end.stage) {
    case http::CallStage::kConnecting:
      return "it cannot be connected to: " + end.status.message();
    case http::CallStage::kWaiting:
      return (late ? "it did not answer: " : "the connection to it was lost before it answered: ") +
             end.status.message();
    case http::CallStage::kAnswering:
      return (late ? "its answer did not end: "
                   : "the connection to it was lost in the midst of its answer: ") +
             end.status.message();
  }
  return end.status.message();
}

// An engine's opinion of the request rather than of itself: passed on, no failure of its instance.
bool refuses_request(int status) { return status >= 400 && status < 500 && status != 429; }

// Whether it says something about the instance rather than about the request.
bool instance_lost(const http::CallEnd& end) {
  return end.status.code() == Code::kUnavailable || (end.status.code() == Code::kDeadlineExceeded &&
                                                     end.stage == http::CallStage::kConnecting);
}

}  // namespace

Dispatch::Dispatch(DispatchContext& context, std::shared_ptr<http::Exchange> exchange,
                   CompletionRequest request, std::function<void()> on_end)
    : context_(context),
      exchange_(std::move(exchange)),
      request_(std::move(request)),
      on_end_(std::move(on_end)),
      deadline_(arrival_ + context.config.budget),
      answer_(exchange_, request_.stream(), context.config.max_answer_bytes, arrival_,
              context.metrics) {}

void Dispatch::start(uint64_t turn) {
  turn_ = turn;
  const auto self = shared_from_this();
  budget_timer_ = context_.loop.after(context_.config.budget, [self] {
    self->cut({504, "the request's time budget is over", "", "budget_exceeded"});
  });
  exchange_->on_client_gone([weak = weak_from_this()] {
    if (const auto dispatch = weak.lock()) dispatch->finish("client_gone");
  });
  exchange_->on_drained([weak = weak_from_this()] {
    const auto dispatch = weak.lock();
    if (dispatch && dispatch->decode_.call) dispatch->decode_.call->resume();
  });
  context_.registry.look_again(Registry::Wanted::kPair, [self] {
    if (!self->finished_) self->send_both();
  });
}

void Dispatch::send_both() {
  const auto pair = choose_pair(context_.config.policy, context_.registry.snapshot(Role::kPrefill),
                                context_.registry.snapshot(Role::kDecode), turn_);
  if (!pair) return cut({503, "no decoder is available", "", "no_decoder"});
  decode_.instance = pair->decoder;
  if (pair->prefiller) {
    prefill_.instance = pair->prefiller;
    send_prefill();
  } else {
    context_.metrics.without_prefill.Increment();
    why_alone_ = "no prefiller is healthy";
  }
  send_decode(/*fetch=*/false);
}

void Dispatch::cut(const ApiError& error) {
  if (finished_) return;
  last_error_ = error;
  answer_.fail(error, debug_headers());
  finish(error.code.c_str());
}

KvTransferParams Dispatch::params(Role role, InstanceId peer) const {
  return {.handoff = handoff_,
          .attempt = attempt_,
          .role = role,
          .fetch = attempt_ > 1,
          .peer = context_.registry.config(peer).node,
          .budget = std::max(time_left(), Duration(std::chrono::milliseconds(1))),
          .salt = request_.cache_salt()};
}

http::Headers Dispatch::debug_headers() const {
  http::Headers headers = {{"x-baton-handoff", handoff_.to_string()},
                           {"x-baton-attempts", std::to_string(attempt_)}};
  const auto add = [&](const char* name, const Leg& leg) {
    if (!leg.instance) return;
    headers.emplace_back(name, context_.registry.config(*leg.instance).url.to_string());
  };
  add("x-baton-prefiller", prefill_);
  add("x-baton-decoder", decode_);
  return headers;
}

void Dispatch::send_leg(Leg& leg, Role role, InstanceId instance, std::string body,
                        http::CallHandlers handlers) {
  const http::Url& url = context_.registry.config(instance).url;
  http::Request request{"POST", url.prefix + exchange_->request().target,
                        end_to_end(exchange_->request().headers), std::move(body)};
  leg.instance = instance;
  leg.unhealthy = false;
  leg.watch = context_.registry.watch(instance, [weak = weak_from_this(), role] {
    const auto self = weak.lock();
    if (!self) return;
    if (role == Role::kDecode) return self->decoder_unhealthy();
    self->prefill_.unhealthy = true;
    self->prefill_.call->cancel();
  });
  context_.registry.begin(instance, request_.estimated_tokens());
  // The budget's own timer decides first.
  leg.call = context_.client.start(url.address, std::move(request),
                                   {.connect_deadline = context_.config.connect_deadline,
                                    .deadline = time_left() + std::chrono::seconds(1)},
                                   std::move(handlers));
}

void Dispatch::end_leg(Leg& leg) {
  leg.call.reset();
  context_.registry.unwatch(*leg.instance, leg.watch);
  context_.registry.end(*leg.instance, request_.estimated_tokens());
}

void Dispatch::send_prefill() {
  const auto self = shared_from_this();
  const auto status = std::make_shared<int>(0);
  prefill_state_ = PrefillState::kRunning;
  const std::string kv = params(Role::kPrefill, *decode_.instance).to_json();
  send_leg(
      prefill_, Role::kPrefill, *prefill_.instance, request_.prefill_body(kv),
      {.on_head = [status](const http::ResponseHead& head) { *status = head.status; },
       .on_body = {},
       .on_end = [self, status](const http::CallEnd& end) { self->prefill_ended(end, *status); }});
}

void Dispatch::prefill_ended(const http::CallEnd& end, int status) {
  end_leg(prefill_);
  const bool done = end.status.ok() && status < 400;
  const bool refused = end.status.ok() && refuses_request(status);
  prefill_state_ = done      ? PrefillState::kDone
                   : refused ? PrefillState::kRefused
                             : PrefillState::kFailed;
  prefill_status_ = status;
  if (finished_) {
    wait_timer_.reset();
    return;
  }
  if (!done) {
    const std::string reason = reason_of(end, status, prefill_.unhealthy);
    if (instance_lost(end)) {
      context_.registry.report_lost(*prefill_.instance, end.status.message());
    }
    const std::string happened = what_happened(end, status, prefill_.unhealthy);
    refused ? judge_refusal() : prefill_failed(reason, happened);
    if (decode_.call && paired_) tell_decoder_node("the prefiller failed: " + happened);
  }
  if (waits_for_prefill_) send_retry();
}

// What both engines refuse is the client's mistake; what one takes, the other should have taken.
void Dispatch::judge_refusal() {
  const bool decoder_takes_it = answer_.engine_status() != 0 && answer_.engine_status() < 400;
  if (prefill_state_ != PrefillState::kRefused || !decoder_takes_it) return;
  prefill_state_ = PrefillState::kFailed;
  prefill_failed("http_" + std::to_string(prefill_status_),
                 "it refused what the decoder takes: " + std::to_string(prefill_status_));
}

void Dispatch::prefill_failed(const std::string& reason, const std::string& happened) {
  why_alone_ = "the prefiller failed: " + happened;
  context_.metrics.count_failed_leg("prefill", reason);
  log::warn("prefill leg failed handoff={}/{} url={} reason={} error=\"{}\"", handoff_.to_string(),
            attempt_, context_.registry.config(*prefill_.instance).url.to_string(), reason,
            happened);
}

void Dispatch::tell_decoder_node(const std::string& reason) {
  const auto& node_http = context_.registry.config(*decode_.instance).node_http;
  if (!node_http) return;
  const nlohmann::json body = {{"attempt", attempt_}, {"reason", reason}};
  http::Request request{"POST",
                        "/handoffs/" + handoff_.to_string() + "/fail",
                        {{"Content-Type", "application/json"}},
                        body.dump()};
  const Token& token = context_.config.token;
  if (token.present()) request.headers.emplace_back("Authorization", token.authorization());
  const auto status = std::make_shared<int>(0);
  context_.client.start(
      *node_http, std::move(request),
      {.connect_deadline = context_.config.connect_deadline,
       .deadline = kTellDeadline,
       .keep_alive = false},
      {.on_head = [status](const http::ResponseHead& head) { *status = head.status; },
       .on_body = {},
       .on_end =
           [status, handoff = handoff_.to_string(),
            node = node_http->to_string()](const http::CallEnd& end) {
             if (end.status.ok() && *status < 400) return;
             // It finds out by itself, at a deadline.
             log::warn(
                 "cannot tell the decoder's node of a failed leg handoff={} node={} "
                 "status={} error=\"{}\"",
                 handoff, node, *status, end.status.message());
           }});
}

void Dispatch::send_decode(bool fetch) {
  const auto self = shared_from_this();
  paired_ = fetch ? prefill_state_ == PrefillState::kDone
                  : attempt_ == 1 && prefill_state_ == PrefillState::kRunning;
  if (!paired_ && why_alone_.empty()) why_alone_ = "the prefiller has not finished";
  const std::string kv =
      paired_ ? params(Role::kDecode, *prefill_.instance).to_json() : std::string();
  send_leg(decode_, Role::kDecode, *decode_.instance, request_.decode_body(kv),
           {.on_head =
                [self](const http::ResponseHead& head) {
                  self->answer_.begin(head, self->debug_headers());
                  self->judge_refusal();
                },
            .on_body = [self](std::string_view piece) { self->decode_piece(piece); },
            .on_end = [self](const http::CallEnd& end) { self->decode_ended(end); }});
}

void Dispatch::decode_piece(std::string_view piece) {
  if (finished_) return;
  if (const Status status = answer_.add(piece); !status.ok()) {
    // A client that has gone, or was cut off, is reported by its exchange too.
    if (status.code() != Code::kCancelled && !exchange_->client_gone()) {
      cut({502, status.message(), "", "answer_too_large"});
    }
    return;
  }
  if (answer_.sent() && answer_.congested()) decode_.call->pause();
}

void Dispatch::decode_ended(const http::CallEnd& end) {
  end_leg(decode_);
  if (finished_) return;
  const int status = answer_.engine_status();
  // The prefiller's offer would wait there for a request that is not coming.
  if (end.status.ok() && status >= 400 && paired_)
    tell_decoder_node("the decoder's request ended: " + std::to_string(status));
  if (end.status.ok() && (status < 400 || refuses_request(status))) {
    answer_.finish(paired_ ? std::string() : no_handoff_json(handoff_, attempt_, why_alone_));
    return finish("ok");
  }
  // The engine keeps the same budget and said first that it is over: nobody has time left.
  if (end.status.ok() && status == 504) {
    return cut({504, "the decoder says: " + answer_.engine_message(), "", "budget_exceeded"});
  }
  const std::string reason = reason_of(end, status, decode_.unhealthy);
  const std::string happened = what_happened(end, status, decode_.unhealthy);
  const std::string url = context_.registry.config(*decode_.instance).url.to_string();
  context_.metrics.count_failed_leg("decode", reason);
  if (instance_lost(end)) context_.registry.report_lost(*decode_.instance, end.status.message());
  log::warn("decode leg failed handoff={}/{} url={} reason={} error=\"{}\"", handoff_.to_string(),
            attempt_, url, reason, end.status.ok() ? answer_.engine_message() : happened);
  if (!end.status.ok()) {
    const ApiError error{502, "the decoder failed: " + happened, "", "decoder_failed"};
    if (answer_.sent()) return cut(error);
    return try_other_decoder(error);
  }
  try_other_decoder(
      {status == 503 || status == 429 ? status : 502,
       "the decoder answered " + std::to_string(status) + ": " + answer_.engine_message(), "",
       "decoder_failed"});
}

void Dispatch::decoder_unhealthy() {
  if (!decode_.call || answer_.sent()) return;
  if (other_decoder()) {
    decode_.unhealthy = true;
    decode_.call->cancel();
    return;
  }
  // Nobody could do better: it may come back while the budget lasts.
  decode_.watch = context_.registry.watch(*decode_.instance, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->decoder_unhealthy();
  });
}

std::optional<InstanceId> Dispatch::other_decoder() const {
  std::vector<InstanceId> excluded = failed_decoders_;
  excluded.push_back(*decode_.instance);
  return choose_instance(context_.config.policy, Role::kDecode,
                         context_.registry.snapshot(Role::kDecode), turn_, excluded);
}

void Dispatch::try_other_decoder(const ApiError& error) {
  last_error_ = error;
  if (!other_decoder()) {
    if (error.status == 429 && answer_.engine_status() == 429) {
      answer_.finish();  // the engine's own words
      return finish("decoder_full");
    }
    return cut(error);
  }
  if (prefill_state_ != PrefillState::kRunning) return send_retry();
  waits_for_prefill_ = true;
  wait_timer_ = context_.loop.after(time_left() / 2, [self = shared_from_this()] {
    if (self->waits_for_prefill_ && !self->finished_) self->send_retry();
  });
}

void Dispatch::send_retry() {
  waits_for_prefill_ = false;
  wait_timer_.reset();
  const auto next = other_decoder();
  if (!next) return cut(*last_error_);
  failed_decoders_.push_back(*decode_.instance);
  decode_.instance = next;
  ++attempt_;
  context_.metrics.retries.Increment();
  send_decode(/*fetch=*/true);
}

void Dispatch::finish(const char* end) {
  if (finished_) return;
  finished_ = true;
  budget_timer_.reset();
  wait_timer_.reset();
  exchange_->on_client_gone({});
  exchange_->on_drained({});
  if (decode_.call) decode_.call->cancel();
  const bool whole = std::string_view(end) == "ok";
  if (prefill_.call && whole) {
    wait_timer_ = context_.loop.after(kPrefillGrace, [call = prefill_.call] { call->cancel(); });
  } else if (prefill_.call) {
    prefill_.call->cancel();
  }
  log_end(end);
  on_end_();
}

void Dispatch::log_end(const char* end) const {
  const bool gone = std::string_view(end) == "client_gone";
  const int code = gone ? 499 : answer_.client_status();
  RouterMetrics& metrics = context_.metrics;
  if (gone) metrics.clients_gone.Increment();
  const std::string route(exchange_->request().path());
  metrics.count_request(route, code);
  const Duration total = now() - arrival_;
  metrics.request_latency.Observe(to_seconds(total));
  const auto url = [&](const Leg& leg) {
    return leg.instance ? context_.registry.config(*leg.instance).url.to_string() : "-";
  };
  static constexpr const char* kPrefillStates[] = {"none", "running", "done", "failed", "refused"};
  const auto first = answer_.time_to_first_token();  // not known of what was held back
  log::info(
      "request route={} code={} end={} handoff={} attempts={} prefiller={} prefill={} decoder={} "
      "stream={} bytes={}{} total_ms={:.1f} error=\"{}\"",
      route, code, end, handoff_.to_string(), attempt_, url(prefill_),
      kPrefillStates[static_cast<int>(prefill_state_)], url(decode_), request_.stream(),
      exchange_->request().body.size(), first ? fmt::format(" ttft_ms={:.1f}", to_ms(*first)) : "",
      to_ms(total), last_error_ ? last_error_->message : "");
}

}  // namespace baton::router
