// What a client gets: the decoder's answer, passed on or held back, or an error.
//
// A streamed answer is passed on piece by piece from its first piece. Anything else (JSON, and all
// errors of an engine) is held back until it is whole, so that the request can be given to another
// decoder until then. Confined to the loop's thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "router/http/exchange.h"
#include "router/metrics.h"
#include "router/openai.h"
#include "transfer/base/clock.h"

namespace baton::router {

class Answer {
 public:
  // `max_bytes`: of an answer that is held back.
  Answer(std::shared_ptr<http::Exchange> exchange, bool stream, size_t max_bytes, TimePoint arrival,
         RouterMetrics& metrics);

  // A decoder's answer begins; forgets what an earlier attempt left. `extra` is added to its
  // headers.
  void begin(const http::ResponseHead& head, http::Headers extra);
  // Errors: kResourceExhausted when the answer is larger than is held back; what Exchange::write
  // says.
  Status add(std::string_view piece);
  // The decoder's answer is whole. `kv_transfer_params`: said where the engine says none, in an
  // answer that was held back; may be empty.
  void finish(std::string_view kv_transfer_params = {});
  // The answer ends with an error: of its own where nothing has been sent, else as the stream's
  // last event.
  void fail(const ApiError& error, http::Headers extra);

  // Whether the client has been sent anything: then no other decoder can take over.
  bool sent() const { return sent_; }
  // Of the engine's answer since begin(), 0 before.
  int engine_status() const { return head_.status; }
  // What the client got in the end.
  int client_status() const { return client_status_; }
  // The engine's error message, where its held back answer is OpenAI-shaped or short text.
  std::string engine_message() const;
  std::optional<Duration> time_to_first_token() const { return first_; }
  // So much waits for the client that no more should be read from the engine for now.
  bool congested() const;

 private:
  bool passes_on() const { return stream_ && head_.status == 200; }

  const std::shared_ptr<http::Exchange> exchange_;
  const bool stream_;
  const size_t max_bytes_;
  const TimePoint arrival_;
  RouterMetrics& metrics_;

  http::ResponseHead head_;
  std::string held_;
  std::string last_bytes_;  // of what was sent: whether it ended an event
  bool sent_ = false;
  int client_status_ = 0;
  std::optional<Duration> first_;
  TimePoint last_piece_{};
};

// Without those that belong to one connection, or that this process sets by itself.
http::Headers end_to_end(const http::Headers& headers);

}  // namespace baton::router
