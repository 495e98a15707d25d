#include "examples/reference_engine/openai_request.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "transfer/base/utf8.h"

namespace baton::reference {
namespace {

using nlohmann::json;

constexpr size_t kMaxStops = 16;
// What walks over a value by recursion (copying and printing do) must not need more stack than
// there is. Honest requests nest a dozen levels.
constexpr int kMaxNesting = 128;
constexpr uint64_t kMaxCount = std::numeric_limits<int32_t>::max();
constexpr uint64_t kMaxBudgetMs = 24ull * 3600 * 1000;

// Leaves the parser; caught in parse_api_request.
struct Rejected {
  ApiError error;
};

[[noreturn]] void reject(const std::string& param, const std::string& message,
                         const char* code = "invalid_value") {
  throw Rejected{{.message = message, .param = param, .code = code}};
}

[[noreturn]] void reject_missing(const std::string& param, const std::string& message) {
  reject(param, message, "missing_required_parameter");
}

[[noreturn]] void reject_unsupported(const std::string& param, const std::string& message) {
  reject(param, message, "unsupported_parameter");
}

std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  const std::string_view beginning = cut_utf8(text, 60);
  return beginning.size() < text.size() ? std::string(beginning) + "…" : text;
}

[[noreturn]] void reject_type(const std::string& param, const json& value, const char* expected) {
  reject(param, "'" + param + "' must be " + expected + ", not " + value.type_name());
}

// The field's value; nothing where it is absent or null.
const json* find(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

bool read_bool(const json& object, const char* name, const std::string& param) {
  const json* value = find(object, name);
  if (value == nullptr) return false;
  if (!value->is_boolean()) reject_type(param, *value, "a boolean");
  return value->get<bool>();
}

std::string read_string(const json& object, const char* name, const std::string& param) {
  const json* value = find(object, name);
  if (value == nullptr) return "";
  if (!value->is_string()) reject_type(param, *value, "a string");
  return value->get<std::string>();
}

std::optional<uint64_t> read_count(const json& object, const char* name, const std::string& param,
                                   uint64_t least, uint64_t most) {
  const json* value = find(object, name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) reject_type(param, *value, "an integer");
  const bool negative = !value->is_number_unsigned() && value->get<int64_t>() < 0;
  if (negative || value->get<uint64_t>() < least || value->get<uint64_t>() > most)
    reject(param, "'" + param + "' is " + shown(*value) + ": expected " + std::to_string(least) +
                      " to " + std::to_string(most));
  return value->get<uint64_t>();
}

float read_float(const json& object, const char* name, float otherwise) {
  const json* value = find(object, name);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) reject_type(name, *value, "a number");
  return static_cast<float>(value->get<double>());
}

// Parameters that would change the answer and that this engine cannot honour, with the value that
// asks for nothing.
void check_supported(const json& body) {
  static const std::pair<const char*, json> kNeutral[] = {{"n", 1},
                                                          {"best_of", 1},
                                                          {"echo", false},
                                                          {"suffix", ""},
                                                          {"logprobs", false},
                                                          {"top_logprobs", 0},
                                                          {"prompt_logprobs", false},
                                                          {"logit_bias", json::object()},
                                                          {"presence_penalty", 0},
                                                          {"frequency_penalty", 0},
                                                          {"repetition_penalty", 1},
                                                          {"min_p", 0},
                                                          {"min_tokens", 0},
                                                          {"use_beam_search", false},
                                                          {"tools", json::array()},
                                                          {"functions", json::array()},
                                                          {"stop_token_ids", json::array()}};
  for (const auto& [name, neutral] : kNeutral) {
    const json* value = find(body, name);
    if (value != nullptr && *value != neutral)
      reject_unsupported(name, std::string("'") + name +
                                   "' is not supported by this engine (only " + neutral.dump() +
                                   " is)");
  }
  const json* format = find(body, "response_format");
  if (format != nullptr && (!format->is_object() || format->value("type", json()) != "text"))
    reject_unsupported("response_format", "'response_format' is not supported by this engine");
}

std::vector<uint32_t> read_token_ids(const json& array) {
  std::vector<uint32_t> tokens;
  tokens.reserve(array.size());
  for (const json& token : array) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() > kMaxCount)
      reject("prompt", "'prompt' holds " + shown(token) + ", which is no token id");
    tokens.push_back(token.get<uint32_t>());
  }
  return tokens;
}

std::variant<std::string, std::vector<uint32_t>> read_prompt(const json& prompt, bool nested) {
  if (prompt.is_string()) {
    if (prompt.get_ref<const std::string&>().empty()) reject("prompt", "'prompt' is empty");
    return prompt.get<std::string>();
  }
  if (!prompt.is_array()) reject_type("prompt", prompt, "a string or an array of token ids");
  if (prompt.empty()) reject("prompt", "'prompt' is empty");
  if (prompt[0].is_number()) return read_token_ids(prompt);
  if (nested) reject_type("prompt", prompt[0], "a string or an array of token ids");
  if (prompt.size() > 1)
    reject("prompt", "'prompt' holds " + std::to_string(prompt.size()) +
                         " prompts: this engine takes one a request");
  return read_prompt(prompt[0], true);
}

std::string read_content(const json& message) {
  const json* content = find(message, "content");
  if (content == nullptr) return "";
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array())
    reject_type("messages", *content, "messages whose content is a string or text parts");
  std::string text;
  for (const json& part : *content) {
    if (!part.is_object() || part.value("type", json()) != "text" ||
        !part.value("text", json()).is_string())
      reject("messages", "'messages' hold a content part that is not text: " + shown(part));
    text += part["text"].get<std::string>();
  }
  return text;
}

std::vector<ChatMessage> read_messages(const json& body) {
  const json* messages = find(body, "messages");
  if (messages == nullptr) reject_missing("messages", "'messages' is missing");
  if (!messages->is_array()) reject_type("messages", *messages, "an array");
  if (messages->empty()) reject("messages", "'messages' is empty");
  std::vector<ChatMessage> read;
  for (const json& message : *messages) {
    if (!message.is_object()) reject_type("messages", message, "an array of objects");
    std::string role = read_string(message, "role", "messages.role");
    if (role.empty()) reject_missing("messages", "'messages' hold one without a role");
    read.push_back({std::move(role), read_content(message)});
  }
  return read;
}

std::vector<std::string> read_stops(const json& body) {
  const json* stop = find(body, "stop");
  if (stop == nullptr) return {};
  const json list = stop->is_array() ? *stop : json::array({*stop});
  if (list.size() > kMaxStops)
    reject("stop", "'stop' holds " + std::to_string(list.size()) + " strings: at most " +
                       std::to_string(kMaxStops) + " are allowed");
  std::vector<std::string> stops;
  for (const json& one : list) {
    if (!one.is_string()) reject_type("stop", one, "a string or an array of strings");
    if (one.get_ref<const std::string&>().empty()) reject("stop", "'stop' holds an empty string");
    stops.push_back(one.get<std::string>());
  }
  return stops;
}

SamplingParams read_sampling(const json& body) {
  SamplingParams sampling;
  sampling.temperature = read_float(body, "temperature", 1.0f);
  sampling.top_p = read_float(body, "top_p", 1.0f);
  if (const json* top_k = find(body, "top_k"); top_k != nullptr && *top_k != -1)  // -1: all
    sampling.top_k = static_cast<uint32_t>(*read_count(body, "top_k", "top_k", 0, kMaxCount));
  sampling.seed = random_u64();
  if (const json* seed = find(body, "seed")) {
    if (!seed->is_number_integer()) reject_type("seed", *seed, "an integer");
    sampling.seed = seed->get<uint64_t>();
  }
  if (const Status status = sampling.validate(); !status.ok()) reject("", status.message());
  return sampling;
}

std::vector<HostPort> read_peers(const json& baton) {
  const json* peers = find(baton, "peer");
  if (peers == nullptr) return {};
  if (!peers->is_array()) reject_type("kv_transfer_params.baton.peer", *peers, "an array");
  std::vector<HostPort> read;
  for (const json& peer : *peers) {
    if (!peer.is_string())
      reject_type("kv_transfer_params.baton.peer", peer, "an array of \"host:port\"");
    const Result<HostPort> address = HostPort::parse(peer.get_ref<const std::string&>());
    if (!address.ok()) reject("kv_transfer_params.baton.peer", address.status().message());
    read.push_back(*address);
  }
  return read;
}

template <typename T>
T read_choice(const json& baton, const char* name, std::optional<T> otherwise,
              std::initializer_list<std::pair<const char*, T>> choices) {
  const std::string param = std::string("kv_transfer_params.baton.") + name;
  const std::string text = read_string(baton, name, param);
  std::string known;
  for (const auto& [word, value] : choices) {
    if (text == word) return value;
    known += (known.empty() ? "'" : " or '") + std::string(word) + "'";
  }
  if (text.empty() && otherwise) return *otherwise;
  reject(param, "'" + param + "' is '" + text + "': expected " + known);
}

void read_transfer(const json& body, ApiRequest& request) {
  const json* params = find(body, "kv_transfer_params");
  if (params == nullptr) return;
  if (!params->is_object()) reject_type("kv_transfer_params", *params, "an object");
  const json* baton = find(*params, "baton");
  if (baton == nullptr) return;
  if (!baton->is_object()) reject_type("kv_transfer_params.baton", *baton, "an object");
  TransferParams transfer;
  const std::string handoff = read_string(*baton, "handoff", "kv_transfer_params.baton.handoff");
  const Result<HandoffId> id = HandoffId::parse(handoff);
  if (!id.ok()) reject("kv_transfer_params.baton.handoff", id.status().message());
  transfer.handoff.id = *id;
  transfer.handoff.attempt = static_cast<uint32_t>(
      read_count(*baton, "attempt", "kv_transfer_params.baton.attempt", 1, kMaxCount).value_or(1));
  transfer.role = read_choice<TransferRole>(
      *baton, "role", std::nullopt,
      {{"prefill", TransferRole::kPrefill}, {"decode", TransferRole::kDecode}});
  transfer.flow = read_choice<protocol::Flow>(
      *baton, "flow", protocol::Flow::kPush,
      {{"push", protocol::Flow::kPush}, {"fetch", protocol::Flow::kFetch}});
  transfer.peer = read_peers(*baton);
  transfer.salt = read_string(*baton, "salt", "kv_transfer_params.baton.salt");
  if (const auto budget =
          read_count(*baton, "budget_ms", "kv_transfer_params.baton.budget_ms", 1, kMaxBudgetMs))
    request.budget = std::chrono::milliseconds(*budget);
  request.transfer = std::move(transfer);
}

ApiRequest read_request(const json& body, bool chat) {
  if (!body.is_object()) reject("", "the body must be a JSON object");
  ApiRequest request;
  request.chat = chat;
  request.model = read_string(body, "model", "model");
  check_supported(body);
  if (chat) {
    request.messages = read_messages(body);
  } else {
    const json* prompt = find(body, "prompt");
    if (prompt == nullptr) reject_missing("prompt", "'prompt' is missing");
    request.prompt = read_prompt(*prompt, false);
  }
  request.max_tokens = read_count(body, "max_tokens", "max_tokens", 1, kMaxCount);
  if (const auto most =
          read_count(body, "max_completion_tokens", "max_completion_tokens", 1, kMaxCount))
    request.max_tokens = most;
  request.sampling = read_sampling(body);
  request.stop = read_stops(body);
  request.stream = read_bool(body, "stream", "stream");
  if (const json* options = find(body, "stream_options")) {
    if (!options->is_object()) reject_type("stream_options", *options, "an object");
    request.include_usage =
        read_bool(*options, "include_usage", "stream_options.include_usage") && request.stream;
  }
  request.ignore_eos = read_bool(body, "ignore_eos", "ignore_eos");
  request.return_token_ids = read_bool(body, "return_token_ids", "return_token_ids");
  read_transfer(body, request);
  return request;
}

}  // namespace

std::variant<ApiRequest, ApiError> parse_api_request(std::string_view body, bool chat) {
  const auto bound_nesting = [](int depth, json::parse_event_t, json&) {
    if (depth > kMaxNesting)
      reject("", "the body is nested more than " + std::to_string(kMaxNesting) + " deep");
    return true;
  };
  try {
    return read_request(json::parse(body, bound_nesting), chat);
  } catch (const Rejected& rejected) {
    return rejected.error;
  } catch (const json::parse_error& error) {
    const std::string text = error.what();  // "[json.exception.parse_error.101] parse error at …"
    const size_t start = text.find("] ");
    return ApiError{.message = "the body is not valid JSON: " +
                               (start == std::string::npos ? text : text.substr(start + 2)),
                    .code = "invalid_json"};
  } catch (const json::exception& error) {
    return ApiError{.message = std::string("the body cannot be read: ") + error.what(),
                    .code = "invalid_value"};
  }
}

}  // namespace baton::reference
