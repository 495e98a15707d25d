// The answers' JSON. Thread-safe: pure functions of their arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "examples/reference_engine/generation.h"

namespace baton::reference {

// What all pieces of one answer share.
struct AnswerStyle {
  bool chat = false;
  bool return_token_ids = false;
  std::string id;  // "cmpl-…", "chatcmpl-…"
  std::string model;
  int64_t created = 0;  // seconds since 1970
  std::optional<TransferParams> transfer;
  std::string own_node;  // "host:port", for the two-step flow
};

// {"id", "object", "created", "model", "choices": [one], "usage", "kv_transfer_params"}
std::string whole_answer(const AnswerStyle& style, std::string_view text,
                         std::span<const uint32_t> tokens, const GenerationEnd& end);

// Pieces of a stream, in this order; each is a JSON object.
std::string text_piece(const AnswerStyle& style, std::string_view text,
                       std::span<const uint32_t> tokens, bool first);
// With finish_reason and kv_transfer_params.
std::string last_piece(const AnswerStyle& style, std::string_view text, const GenerationEnd& end,
                       bool first);
std::string usage_piece(const AnswerStyle& style, const GenerationEnd& end);

// "data: …\n\n"
std::string sse_event(std::string_view json);

// {"object": "list", "data": [the model]}
std::string model_list(std::string_view name, int64_t created);

}  // namespace baton::reference
