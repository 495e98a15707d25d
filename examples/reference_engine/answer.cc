#include "examples/reference_engine/answer.h"

#include <algorithm>
#include <utility>

#include "examples/reference_engine/openai_request.h"
#include "router/http/exchange.h"

namespace baton::reference {
namespace {

// Length of the longest end of `text` that begins a stop string.
size_t possible_stop(std::string_view text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops)
    for (size_t n = std::min(text.size(), stop.size() - 1); n > longest; --n)
      if (text.substr(text.size() - n) == std::string_view(stop).substr(0, n)) longest = n;
  return longest;
}

// What a JSON answer and a stream have in common.
class Answer : public GenerationSink {
 public:
  Answer(std::shared_ptr<http::Exchange> exchange, const Tokenizer& tokenizer,
         AnswerOptions options)
      : exchange_(std::move(exchange)),
        text_(tokenizer, std::move(options.stops)),
        style_(std::move(options.style)) {}

  void on_end(const GenerationEnd& end) final {
    exchange_->on_client_gone({});
    if (end.status.ok())
      succeed(end);
    else
      fail(ApiError::of(end.status));
  }

 protected:
  virtual void succeed(const GenerationEnd& end) = 0;
  virtual void fail(const ApiError& error) { exchange_->respond_error(error); }

  const std::shared_ptr<http::Exchange> exchange_;
  AnswerText text_;
  const AnswerStyle style_;
};

class WholeAnswer final : public Answer {
 public:
  using Answer::Answer;

  bool on_token(uint32_t token) override {
    tokens_.push_back(token);
    whole_ += text_.push(token);
    return !text_.stopped();
  }

 private:
  void succeed(const GenerationEnd& end) override {
    whole_ += text_.finish();
    exchange_->respond(200, {{"Content-Type", "application/json"}},
                       whole_answer(style_, whole_, tokens_, end));
  }

  std::vector<uint32_t> tokens_;
  std::string whole_;
};

class StreamedAnswer final : public Answer {
 public:
  StreamedAnswer(std::shared_ptr<http::Exchange> exchange, const Tokenizer& tokenizer,
                 AnswerOptions options)
      : Answer(std::move(exchange), tokenizer, options), include_usage_(options.include_usage) {}

  // A client that is gone or too slow shows in on_client_gone, which cancels the request.
  bool on_token(uint32_t token) override {
    begin();
    const std::string text = text_.push(token);
    if (first_ || !text.empty() || style_.return_token_ids)
      send(text_piece(style_, text, {&token, 1}, std::exchange(first_, false)));
    return !text_.stopped();
  }

 private:
  void succeed(const GenerationEnd& end) override {
    begin();
    send(last_piece(style_, text_.finish(), end, std::exchange(first_, false)));
    if (include_usage_) send(usage_piece(style_, end));
    (void)exchange_->write("data: [DONE]\n\n");
    exchange_->finish();
  }

  void fail(const ApiError& error) override {
    if (!begun_) return Answer::fail(error);
    send(error.json());
    (void)exchange_->write("data: [DONE]\n\n");
    exchange_->finish();
  }

  void begin() {
    if (std::exchange(begun_, true)) return;
    (void)exchange_->start_stream(
        200, {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}});
  }
  void send(std::string_view json) { (void)exchange_->write(sse_event(json)); }

  const bool include_usage_;
  bool begun_ = false;
  bool first_ = true;
};

}  // namespace

AnswerText::AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops)
    : decoder_(tokenizer), stops_(std::move(stops)) {}

std::string AnswerText::push(uint32_t token) {
  if (stopped_) return "";
  pending_ += decoder_.push(token);
  return settle(false);
}

std::string AnswerText::finish() {
  if (stopped_) return "";
  pending_ += decoder_.finish();
  return settle(true);
}

std::string AnswerText::settle(bool all) {
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, pending_.find(stop));
  stopped_ = end != std::string::npos;
  if (!stopped_) end = pending_.size() - (all ? 0 : possible_stop(pending_, stops_));
  std::string certain = pending_.substr(0, end);
  pending_.erase(0, end);
  return certain;
}

std::unique_ptr<GenerationSink> make_answer(std::shared_ptr<http::Exchange> exchange,
                                            const Tokenizer& tokenizer, AnswerOptions options) {
  if (options.stream)
    return std::make_unique<StreamedAnswer>(std::move(exchange), tokenizer, std::move(options));
  return std::make_unique<WholeAnswer>(std::move(exchange), tokenizer, std::move(options));
}

}  // namespace baton::reference
