#include "tests/fuzz/http_fuzz.h"

#include <nlohmann/json.hpp>
#include <string>

#include "examples/reference_engine/openai_request.h"
#include "router/openai.h"
#include "transfer/base/check.h"

namespace baton {
namespace {

using nlohmann::json;

constexpr const char* kParams =
    R"({"baton":{"handoff":"00000000-0000-4000-8000-000000000001","role":"prefill","attempt":1}})";

void check_error(int status, const std::string& body) {
  BATON_CHECK(status == 400, "a body that is not taken is a bad request: " + body);
  const json error = json::parse(body);
  BATON_CHECK(error.at("error").at("message").is_string() &&
                  error.at("error").at("type") == "invalid_request_error",
              body);
}

// `leg` says what the client's body says but for `changed`.
void check_leg(const json& client, const std::string& text, const json& changed) {
  BATON_CHECK(json::accept(text), "a leg's body is JSON: " + text);
  const json leg = json::parse(text);
  for (const auto& [name, value] : client.items()) {
    if (changed.contains(name)) continue;
    BATON_CHECK(leg.contains(name) && leg.at(name) == value, "a member is lost: " + name);
  }
  for (const auto& [name, value] : leg.items()) {
    const bool ours = changed.contains(name) && changed.at(name) == value;
    BATON_CHECK(ours || client.contains(name), "a member is added: " + name);
  }
}

bool takes(const std::string& body, bool chat) {
  const auto parsed = reference::parse_api_request(body, chat);
  const auto* error = std::get_if<http::ApiError>(&parsed);
  if (error != nullptr) check_error(error->status, error->json());
  return error == nullptr;
}

}  // namespace

HttpVerdict fuzz_http(const uint8_t* data, size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  HttpVerdict verdict;
  router::CompletionRequest request;
  const auto error = router::CompletionRequest::parse(body, request);
  verdict.router = !error;
  if (error) check_error(error->status, error->json());
  const bool completion = takes(body, false), chat = takes(body, true);
  verdict.engine = completion || chat;
  if (!verdict.router) return verdict;

  BATON_CHECK(request.decode_body("") == body, "nothing added, nothing changed");
  const std::string prefill = request.prefill_body(kParams);
  const std::string decode = request.decode_body(kParams);
  const json client = json::parse(body), params = json::parse(kParams);
  check_leg(client, decode, {{"kv_transfer_params", params}});
  check_leg(client, prefill,
            {{"kv_transfer_params", params},
             {"max_tokens", 1},
             {"max_completion_tokens", 1},
             {"stream", false},
             {"stream_options", nullptr},
             {"min_tokens", nullptr}});
  BATON_CHECK(request.stream() == (client.value("stream", json()) == true), "stream()");
  BATON_CHECK(!completion || takes(prefill, false), "the prefiller takes what the decoder takes");
  BATON_CHECK(!chat || takes(prefill, true), "the prefiller takes what the decoder takes");
  return verdict;
}

}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  baton::fuzz_http(data, size);
  return 0;
}
