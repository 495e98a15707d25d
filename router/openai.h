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
  uint64_t estimated_tokens() const { return body_.size() / 4 + 1; }

  // For the decoder: the client's body, with `kv_transfer_params` added unless empty.
  std::string decode_body(std::string_view kv_transfer_params) const;
  // For the prefiller: one token, no stream, and nothing that contradicts it (stream_options,
  // min_tokens).
  std::string prefill_body(std::string_view kv_transfer_params) const;

 private:
  struct Member {
    std::string name;
    size_t begin = 0;  // of its text in body_, from the name's quote …
    size_t end = 0;    // … to the end of its value
    size_t value = 0;  // where its value begins
  };

  std::optional<ApiError> read_members();
  std::optional<ApiError> read_member_values();
  std::string_view value_of(const Member& member) const;
  std::string join(const std::vector<std::string_view>& left_out, std::string_view added) const;

  std::string body_;
  std::vector<Member> members_;
  bool stream_ = false;
  std::string cache_salt_;
};

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

}  // namespace baton::router
