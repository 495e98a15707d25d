// The little that a router knows of the OpenAI API: how to make the two legs' bodies from a
// client's. (Errors: http/api_error.h.)
//
// Bodies are edited as text, member by member: what the router does not need goes through byte for
// byte (numbers as written, unknown fields, their order). Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/http/api_error.h"
#include "router/json_object.h"
#include "scheduler/pairing.h"
#include "transfer/base/address.h"
#include "transfer/base/clock.h"
#include "transfer/base/ids.h"

namespace baton::router {

using http::ApiError;

// A client's request for completions.
class CompletionRequest {
 public:
  // Nothing where the body can be sent to an engine; otherwise what is wrong with it: no JSON,
  // invalid UTF-8, no object, "stream" that is no boolean, "cache_salt" that is no string, or
  // "kv_transfer_params", which only the router may set: a client that could name nodes and
  // handoffs could reach other clients' KV.
  static std::optional<ApiError> parse(std::string body, CompletionRequest& out);

  bool stream() const { return stream_; }
  const std::string& cache_salt() const { return cache_salt_; }
  // A guess from the number of bytes, good enough to compare loads.
  uint64_t estimated_tokens() const { return body_.text().size() / 4 + 1; }

  // For the decoder: the client's body, with `kv_transfer_params` added unless empty.
  std::string decode_body(std::string_view kv_transfer_params) const;
  // For the prefiller: one token, no stream, and nothing that contradicts it (stream_options,
  // min_tokens).
  std::string prefill_body(std::string_view kv_transfer_params) const;

 private:
  std::optional<ApiError> read_member_values();

  JsonObject body_;
  bool stream_ = false;
  std::string cache_salt_;
};

// An engine's answer, saying `params` where it says nothing of a handoff itself: where its
// "kv_transfer_params" is absent or null. What is no JSON object stays as it is.
std::string with_kv_transfer_params(std::string answer, std::string_view params);

struct KvTransferParams {
  HandoffId handoff;
  uint32_t attempt = 1;
  scheduler::Role role{};
  bool fetch = false;  // flow "fetch" instead of "push"
  std::vector<HostPort> peer;
  Duration budget{};
  std::string salt;  // left out where empty

  std::string to_json() const;
};

// What is known of a handoff that never was one, in the form in which engines say it.
std::string no_handoff_json(const HandoffId& handoff, uint32_t attempt, const std::string& why);

}  // namespace baton::router
