// From tokens to the bytes of an answer: text, stop strings, JSON or server-sent events.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "examples/reference_engine/generation.h"
#include "examples/reference_engine/openai_response.h"
#include "examples/reference_engine/tokenizer.h"

namespace baton::http {
class Exchange;
}

namespace baton::reference {

// The text of an answer as it grows, cut before the first stop string. Text that may still become
// a stop string is held back. Externally synchronised.
class AnswerText {
 public:
  // The tokenizer outlives it.
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops);
  // The text that is certain now.
  std::string push(uint32_t token);
  // A stop string was reached: no text follows.
  bool stopped() const { return stopped_; }
  // What was held back.
  std::string finish();

 private:
  std::string settle(bool all);

  StreamDecoder decoder_;
  const std::vector<std::string> stops_;
  std::string pending_;
  bool stopped_ = false;
};

struct AnswerOptions {
  AnswerStyle style;
  std::vector<std::string> stops;
  bool stream = false;
  bool include_usage = false;
};

// Answers `exchange` with what is generated. The first byte of a stream goes out with the first
// token, so that a failure before it still has an HTTP status. The tokenizer outlives it.
std::unique_ptr<GenerationSink> make_answer(std::shared_ptr<http::Exchange> exchange,
                                            const Tokenizer& tokenizer, AnswerOptions options);

}  // namespace baton::reference
