#include "router/openai.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace baton::router {
namespace {

using nlohmann::json;

ApiError bad_request(std::string message, std::string param = {}) {
  return {400, std::move(message), std::move(param), "invalid_value"};
}

std::string parse_error_text(const std::string& body) {
  try {
    const json never_valid = json::parse(body);
    return {};
  } catch (const json::exception& e) {
    const std::string text = e.what();
    const size_t at = text.find("] ");  // the library's own numbering ends here
    return at == text.npos ? text : text.substr(at + 2);
  }
}

}  // namespace

std::optional<ApiError> CompletionRequest::parse(std::string body, CompletionRequest& out) {
  if (!json::accept(body)) {
    ApiError error = bad_request("the body is not valid JSON: " + parse_error_text(body));
    error.code = "invalid_json";
    return error;
  }
  auto object = JsonObject::of(std::move(body));
  if (!object) return bad_request("the body must be a JSON object");
  CompletionRequest request;
  request.body_ = std::move(*object);
  if (auto error = request.read_member_values()) return error;
  out = std::move(request);
  return std::nullopt;
}

std::optional<ApiError> CompletionRequest::read_member_values() {
  // Of a name that stands twice the last one counts, as it does for the engines' parsers.
  for (const auto& [name, value] : body_.members()) {
    if (name == "stream") {
      if (value != "true" && value != "false" && value != "null") {
        return bad_request("'stream' must be true or false", "stream");
      }
      stream_ = value == "true";
    } else if (name == "cache_salt" && value != "null") {
      if (value.front() != '"') return bad_request("'cache_salt' must be a string", "cache_salt");
      cache_salt_ = json::parse(value).get<std::string>();
    } else if (name == "kv_transfer_params" && value != "null") {
      return bad_request("'kv_transfer_params' is set by the router and not taken from clients",
                         "kv_transfer_params");
    }
  }
  return std::nullopt;
}

std::string CompletionRequest::decode_body(std::string_view kv_transfer_params) const {
  if (kv_transfer_params.empty()) return body_.text();
  return body_.with({"kv_transfer_params"},
                    "\"kv_transfer_params\":" + std::string(kv_transfer_params));
}

std::string CompletionRequest::prefill_body(std::string_view kv_transfer_params) const {
  std::string added = "\"max_tokens\":1,\"stream\":false";
  if (body_.value_of("max_completion_tokens")) added += ",\"max_completion_tokens\":1";
  added += ",\"kv_transfer_params\":" + std::string(kv_transfer_params);
  return body_.with({"max_tokens", "max_completion_tokens", "min_tokens", "stream",
                     "stream_options", "kv_transfer_params"},
                    added);
}

std::string with_kv_transfer_params(std::string answer, std::string_view params) {
  if (!json::accept(answer)) return answer;
  const auto object = JsonObject::of(answer);
  if (!object || object->value_of("kv_transfer_params").value_or("null") != "null") return answer;
  return object->with({"kv_transfer_params"}, "\"kv_transfer_params\":" + std::string(params));
}

std::string KvTransferParams::to_json() const {
  json peers = json::array();
  for (const HostPort& address : peer) peers.push_back(address.to_string());
  json baton = {
      {"handoff", handoff.to_string()},
      {"attempt", attempt},
      {"role", role == scheduler::Role::kPrefill ? "prefill" : "decode"},
      {"flow", fetch ? "fetch" : "push"},
      {"peer", std::move(peers)},
      {"budget_ms", std::chrono::duration_cast<std::chrono::milliseconds>(budget).count()},
  };
  if (!salt.empty()) baton["salt"] = salt;
  // What flags name need not be UTF-8.
  return json{{"baton", std::move(baton)}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string no_handoff_json(const HandoffId& handoff, uint32_t attempt, const std::string& why) {
  json baton = {
      {"handoff", handoff.to_string()}, {"attempt", attempt}, {"end", "failed"}, {"why", why}};
  return json{{"baton", std::move(baton)}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace baton::router
