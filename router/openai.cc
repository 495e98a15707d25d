#include "router/openai.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace baton::router {
namespace {

using nlohmann::json;

ApiError bad_request(std::string message, std::string param = {}) {
  return {400, std::move(message), std::move(param), "invalid_value"};
}

// Walks over text that is known to be valid JSON.
class Scanner {
 public:
  Scanner(std::string_view text, size_t at) : text_(text), at_(at) {}

  size_t at() const { return at_; }
  char peek() const { return text_[at_]; }
  void advance() { ++at_; }
  void skip_space() { at_ = text_.find_first_not_of(" \t\r\n", at_); }
  void skip_string() {
    for (++at_; text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
  }
  void skip_value() {
    if (peek() == '"') return skip_string();
    if (peek() != '{' && peek() != '[') {
      at_ = text_.find_first_of(",]} \t\r\n", at_);
      return;
    }
    size_t depth = 0;
    do {
      if (peek() == '"') {
        skip_string();
        continue;
      }
      if (peek() == '{' || peek() == '[') ++depth;
      if (peek() == '}' || peek() == ']') --depth;
      ++at_;
    } while (depth > 0);
  }

 private:
  std::string_view text_;
  size_t at_;
};

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
  CompletionRequest request;
  request.body_ = std::move(body);
  if (auto error = request.read_members()) return error;
  if (auto error = request.read_member_values()) return error;
  out = std::move(request);
  return std::nullopt;
}

std::optional<ApiError> CompletionRequest::read_members() {
  Scanner scan(body_, 0);
  scan.skip_space();
  if (scan.peek() != '{') return bad_request("the body must be a JSON object");
  scan.advance();
  scan.skip_space();
  while (scan.peek() != '}') {
    Member member;
    member.begin = scan.at();
    scan.skip_string();
    // The name may be written with escapes.
    member.name = json::parse(body_.substr(member.begin, scan.at() - member.begin));
    scan.skip_space();
    scan.advance();  // ':'
    scan.skip_space();
    member.value = scan.at();
    scan.skip_value();
    member.end = scan.at();
    members_.push_back(std::move(member));
    scan.skip_space();
    if (scan.peek() == ',') {
      scan.advance();
      scan.skip_space();
    }
  }
  return std::nullopt;
}

std::optional<ApiError> CompletionRequest::read_member_values() {
  // Of a name that stands twice the last one counts, as it does for the engines' parsers.
  for (const Member& member : members_) {
    const std::string_view value = value_of(member);
    if (member.name == "stream") {
      if (value != "true" && value != "false" && value != "null") {
        return bad_request("'stream' must be true or false", "stream");
      }
      stream_ = value == "true";
    } else if (member.name == "cache_salt" && value != "null") {
      if (value.front() != '"') return bad_request("'cache_salt' must be a string", "cache_salt");
      cache_salt_ = json::parse(value).get<std::string>();
    } else if (member.name == "kv_transfer_params" && value != "null") {
      return bad_request("'kv_transfer_params' is set by the router and not taken from clients",
                         "kv_transfer_params");
    }
  }
  return std::nullopt;
}

std::string_view CompletionRequest::value_of(const Member& member) const {
  return std::string_view(body_).substr(member.value, member.end - member.value);
}

std::string CompletionRequest::join(const std::vector<std::string_view>& left_out,
                                    std::string_view added) const {
  std::string out = "{";
  out.reserve(body_.size() + added.size() + 2);
  const auto append = [&](std::string_view text) {
    if (out.size() > 1) out += ',';
    out += text;
  };
  for (const Member& member : members_) {
    if (std::find(left_out.begin(), left_out.end(), member.name) != left_out.end()) continue;
    append(std::string_view(body_).substr(member.begin, member.end - member.begin));
  }
  if (!added.empty()) append(added);
  return out + '}';
}

std::string CompletionRequest::decode_body(std::string_view kv_transfer_params) const {
  if (kv_transfer_params.empty()) return body_;
  return join({"kv_transfer_params"}, "\"kv_transfer_params\":" + std::string(kv_transfer_params));
}

std::string CompletionRequest::prefill_body(std::string_view kv_transfer_params) const {
  const bool has_completion_tokens =
      std::any_of(members_.begin(), members_.end(),
                  [](const Member& m) { return m.name == "max_completion_tokens"; });
  std::string added = "\"max_tokens\":1,\"stream\":false";
  if (has_completion_tokens) added += ",\"max_completion_tokens\":1";
  added += ",\"kv_transfer_params\":" + std::string(kv_transfer_params);
  return join({"max_tokens", "max_completion_tokens", "min_tokens", "stream", "stream_options",
               "kv_transfer_params"},
              added);
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

}  // namespace baton::router
