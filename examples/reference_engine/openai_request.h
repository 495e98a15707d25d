// What a client asked for: the body of /v1/completions and /v1/chat/completions, checked.
//
// Wrong types, values out of range and parameters that would change the answer but are not
// supported are errors that name the parameter; unknown parameters are ignored. Lengths are not
// checked here (Engine::check does). Thread-safe: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "examples/reference_engine/chat_template.h"
#include "examples/reference_engine/kv_transfer.h"
#include "examples/reference_engine/sampler.h"
#include "router/http/api_error.h"
#include "transfer/base/clock.h"

namespace baton::reference {

using http::ApiError;

struct ApiRequest {
  bool chat = false;
  std::string model;                                        // empty: not named
  std::variant<std::string, std::vector<uint32_t>> prompt;  // completions
  std::vector<ChatMessage> messages;                        // chat
  std::optional<uint64_t> max_tokens;                       // at least 1
  // Temperature 1 unless given; the seed is random unless given.
  SamplingParams sampling;
  std::vector<std::string> stop;  // none of them empty
  bool stream = false;
  bool include_usage = false;
  bool ignore_eos = false;
  bool return_token_ids = false;
  std::optional<TransferParams> transfer;
  std::optional<Duration> budget;
};

std::variant<ApiRequest, ApiError> parse_api_request(std::string_view body, bool chat);

}  // namespace baton::reference
