#include "router/answer.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "transfer/base/utf8.h"

namespace baton::router {
namespace {

constexpr size_t kCongestedBytes = 256 << 10;
constexpr size_t kMaxQuotedBytes = 500;

bool is_event_stream(const http::Headers& headers) {
  return http::find_header(headers, "Content-Type").starts_with("text/event-stream");
}

}  // namespace

http::Headers end_to_end(const http::Headers& headers) {
  // Accept-Encoding: an answer must stay readable for us, to end a stream with an error event.
  static constexpr std::string_view kHopByHop[] = {
      "connection", "keep-alive", "transfer-encoding", "te",     "trailer",
      "upgrade",    "host",       "content-length",    "expect", "accept-encoding"};
  http::Headers kept;
  for (const auto& [name, value] : headers) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    if (std::find(std::begin(kHopByHop), std::end(kHopByHop), lower) == std::end(kHopByHop) &&
        !lower.starts_with("proxy-")) {
      kept.emplace_back(name, value);
    }
  }
  return kept;
}

Answer::Answer(std::shared_ptr<http::Exchange> exchange, bool stream, size_t max_bytes,
               TimePoint arrival, RouterMetrics& metrics)
    : exchange_(std::move(exchange)),
      stream_(stream),
      max_bytes_(max_bytes),
      arrival_(arrival),
      metrics_(metrics) {}

void Answer::begin(const http::ResponseHead& head, http::Headers extra) {
  head_ = {head.status, end_to_end(head.headers)};
  head_.headers.insert(head_.headers.end(), extra.begin(), extra.end());
  held_.clear();
}

Status Answer::add(std::string_view piece) {
  if (!passes_on()) {
    if (held_.size() + piece.size() > max_bytes_) {
      return Status(Code::kResourceExhausted,
                    "the engine's answer is larger than " + std::to_string(max_bytes_) + " bytes");
    }
    held_ += piece;
    return ok_status();
  }
  const TimePoint at = now();
  if (!sent_) {
    sent_ = true;
    client_status_ = head_.status;
    first_ = at - arrival_;
    metrics_.time_to_first_token.Observe(to_seconds(*first_));
    BATON_RETURN_IF_ERROR(exchange_->start_stream(head_.status, head_.headers));
  } else {
    metrics_.inter_token_latency.Observe(to_seconds(at - last_piece_));
  }
  last_piece_ = at;
  last_bytes_ += piece.substr(piece.size() - std::min<size_t>(piece.size(), 2));
  if (last_bytes_.size() > 2) last_bytes_.erase(0, last_bytes_.size() - 2);
  return exchange_->write(piece);
}

void Answer::finish(std::string_view kv_transfer_params) {
  client_status_ = head_.status;
  if (sent_) {
    exchange_->finish();
  } else {
    sent_ = true;
    if (head_.status == 429 && http::find_header(head_.headers, "Retry-After").empty()) {
      head_.headers.emplace_back("Retry-After", "1");
    }
    if (head_.status == 200 && !kv_transfer_params.empty()) {
      held_ = with_kv_transfer_params(std::move(held_), kv_transfer_params);
    }
    exchange_->respond(head_.status, head_.headers, std::move(held_));
  }
}

void Answer::fail(const ApiError& error, http::Headers extra) {
  if (!sent_) {
    sent_ = true;
    client_status_ = error.status;
    exchange_->respond_error(error, std::move(extra));
    return;
  }
  client_status_ = error.status;
  if (!is_event_stream(head_.headers)) return exchange_->abort();
  const char* separator = last_bytes_ == "\n\n" ? "" : "\n\n";
  (void)exchange_->write(separator + ("data: " + error.json()) + "\n\n");
  exchange_->finish();
}

std::string Answer::engine_message() const {
  const auto parsed = nlohmann::json::parse(held_, nullptr, false);
  if (parsed.is_object() && parsed.contains("error")) {
    const auto& error = parsed["error"];
    if (error.is_object() && error.contains("message") && error["message"].is_string()) {
      return error["message"];
    }
  }
  return std::string(cut_utf8(held_, kMaxQuotedBytes));
}

bool Answer::congested() const { return exchange_->buffered_bytes() > kCongestedBytes; }

}  // namespace baton::router
