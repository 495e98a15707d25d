#include "examples/reference_engine/server.h"

#include <algorithm>
#include <chrono>

#include "examples/reference_engine/answer.h"
#include "examples/reference_engine/openai_request.h"
#include "router/http/server.h"

namespace baton::reference {
namespace {

constexpr uint64_t kDefaultCompletionTokens = 16;  // as OpenAI's
constexpr const char* kJson = "application/json";

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

size_t longest_token(const Tokenizer& tokenizer) {
  size_t longest = 1;
  for (uint32_t token = 0; token < tokenizer.vocab_size(); ++token)
    longest = std::max(longest, tokenizer.token_bytes(token).size());
  return longest;
}

ApiError invalid(std::string message, const char* param) {
  return {.message = std::move(message), .param = param, .code = "invalid_value"};
}

const char* role_name(TransferRole role) {
  return role == TransferRole::kPrefill ? "prefill" : "decode";
}

}  // namespace

class ApiServer::Routes {
 public:
  Routes(ApiConfig config, const Model& model, Engine& engine, Metrics& metrics)
      : config_(std::move(config)),
        model_(model),
        engine_(engine),
        metrics_(metrics),
        started_(unix_seconds()),
        longest_token_(longest_token(*model.tokenizer)) {}

  void handle(const std::shared_ptr<http::Exchange>& exchange) {
    const std::string_view path = exchange->request().path();
    if (path == "/v1/completions") return generate(exchange, false);
    if (path == "/v1/chat/completions") return generate(exchange, true);
    std::string type = kJson, body;
    if (path == "/v1/models") {
      body = model_list(config_.model_name, started_);
    } else if (path == "/health") {
      body = R"({"status":"ok"})";
    } else if (path == "/metrics") {
      // The node's are among them.
      if (!config_.token.admits(http::find_header(exchange->request().headers, "Authorization")))
        return exchange->respond_error({.status = 401,
                                        .message = "/metrics needs Authorization: Bearer <token>",
                                        .code = "invalid_api_key"});
      type = "text/plain; version=0.0.4";
      body = metrics_.text();
    } else {
      return exchange->respond_error(
          {.status = 404, .message = "no such path", .code = "unknown_url"});
    }
    const std::string& method = exchange->request().method;
    if (method != "GET" && method != "HEAD")
      return exchange->respond_error(
          {.status = 405, .message = "only GET is allowed here", .code = "method_not_allowed"});
    exchange->respond(200, {{"Content-Type", type}}, std::move(body));
  }

 private:
  using Refusal = std::optional<ApiError>;

  void generate(const std::shared_ptr<http::Exchange>& exchange, bool chat) {
    if (exchange->request().method != "POST")
      return exchange->respond_error(
          {.status = 405, .message = "only POST is allowed here", .code = "method_not_allowed"});
    auto parsed = parse_api_request(exchange->request().body, chat);
    if (const ApiError* error = std::get_if<ApiError>(&parsed))
      return exchange->respond_error(*error);
    ApiRequest& request = std::get<ApiRequest>(parsed);
    GenerationRequest generation;
    if (Refusal refusal = check_names(request)) return exchange->respond_error(*refusal);
    if (Refusal refusal = read_prompt(request, generation.prompt))
      return exchange->respond_error(*refusal);
    if (Refusal refusal = read_lengths(request, generation))
      return exchange->respond_error(*refusal);
    start(exchange, std::move(request), std::move(generation));
  }

  Refusal check_names(const ApiRequest& request) const {
    if (!request.model.empty() && request.model != config_.model_name)
      return ApiError{.status = 404,
                      .message = "the model '" + request.model +
                                 "' does not exist here; this is '" + config_.model_name + "'",
                      .param = "model",
                      .code = "model_not_found"};
    if (request.transfer && config_.only_role && request.transfer->role != *config_.only_role)
      return invalid(std::string("a handoff's role '") + role_name(request.transfer->role) +
                         "' was asked of an engine started with --role " +
                         role_name(*config_.only_role),
                     "kv_transfer_params");
    return std::nullopt;
  }

  Refusal read_prompt(const ApiRequest& request, std::vector<uint32_t>& prompt) const {
    if (const auto* tokens = std::get_if<std::vector<uint32_t>>(&request.prompt);
        tokens != nullptr && !request.chat) {
      const uint32_t vocab = model_.llama->config().vocab;
      for (const uint32_t token : *tokens)
        if (token >= vocab)
          return invalid("token id " + std::to_string(token) + " is not below the vocabulary's " +
                             std::to_string(vocab),
                         "prompt");
      prompt = *tokens;
      return std::nullopt;
    }
    std::vector<TextPiece> pieces;
    if (request.chat) {
      const auto& tokenizer = *model_.tokenizer;
      const LlamaConfig& llama = model_.llama->config();
      auto rendered = model_.chat_template.render(
          request.messages, {.bos_token = std::string(tokenizer.token_bytes(llama.bos)),
                             .eos_token = std::string(tokenizer.token_bytes(llama.eos))});
      if (!rendered.ok()) return invalid(rendered.status().message(), "messages");
      pieces = std::move(rendered).value();
    } else {
      pieces.push_back({std::get<std::string>(request.prompt), true});
    }
    return encode(pieces, request.chat ? "messages" : "prompt", prompt);
  }

  Refusal encode(const std::vector<TextPiece>& pieces, const char* param,
                 std::vector<uint32_t>& prompt) const {
    uint64_t bytes = 0;
    for (const TextPiece& piece : pieces) bytes += piece.text.size();
    // Spares us the encoding of what is too long in any case.
    const uint64_t least = bytes / longest_token_;
    if (const Status status = engine_.check(least, 1); !status.ok())
      return ApiError{.message = "the prompt of " + std::to_string(bytes) +
                                 " bytes is too long: " + status.message() + " at least",
                      .param = param,
                      .code = "context_length_exceeded"};
    auto tokens = model_.tokenizer->encode(pieces);
    if (!tokens.ok()) return invalid(tokens.status().message(), param);
    prompt = std::move(tokens).value();
    if (prompt.empty()) return invalid("the prompt has no tokens", param);
    return std::nullopt;
  }

  Refusal read_lengths(const ApiRequest& request, GenerationRequest& generation) const {
    const uint64_t prompt = generation.prompt.size();
    const uint64_t most = engine_.longest_answer(prompt);
    const uint64_t wanted = request.max_tokens.value_or(std::clamp<uint64_t>(
        request.chat ? most : kDefaultCompletionTokens, 1, std::max<uint64_t>(most, 1)));
    const Status status = engine_.check(prompt, wanted);
    if (!status.ok())
      return ApiError{.message = status.message(),
                      .param = request.max_tokens && most > 0 ? "max_tokens"
                               : request.chat                 ? "messages"
                                                              : "prompt",
                      .code = "context_length_exceeded"};
    generation.max_tokens = static_cast<uint32_t>(wanted);
    return std::nullopt;
  }

  void start(const std::shared_ptr<http::Exchange>& exchange, ApiRequest request,
             GenerationRequest generation) const {
    AnswerOptions options;
    options.style = {.chat = request.chat,
                     .return_token_ids = request.return_token_ids,
                     .id = (request.chat ? "chatcmpl-" : "cmpl-") + HandoffId::random().to_string(),
                     .model = config_.model_name,
                     .created = unix_seconds(),
                     .transfer = request.transfer,
                     .own_node = config_.own_node};
    options.stops = std::move(request.stop);
    options.stream = request.stream;
    options.include_usage = request.include_usage;
    generation.name = options.style.id;
    generation.sampling = request.sampling;
    generation.ignore_eos = request.ignore_eos;
    generation.deadline = now() + request.budget.value_or(config_.budget);
    generation.transfer = std::move(request.transfer);
    const Result<uint64_t> id = engine_.submit(
        std::move(generation), make_answer(exchange, *model_.tokenizer, std::move(options)));
    if (!id.ok()) {
      // The queue is full: the client is to come back later, as OpenAI says it.
      const bool full = id.status().code() == Code::kResourceExhausted;
      return exchange->respond_error(ApiError::of_status(full ? 429 : 503, id.status().message()));
    }
    exchange->on_client_gone([&engine = engine_, id = *id] { engine.cancel(id); });
  }

  const ApiConfig config_;
  const Model& model_;
  Engine& engine_;
  Metrics& metrics_;
  const int64_t started_;
  const size_t longest_token_;
};

ApiServer::ApiServer() = default;
ApiServer::~ApiServer() = default;

Result<std::unique_ptr<ApiServer>> ApiServer::listen(http::EventLoop& loop, ApiConfig config,
                                                     const Model& model, Engine& engine,
                                                     Metrics& metrics) {
  std::unique_ptr<ApiServer> api(new ApiServer);
  const HostPort address = config.listen;
  api->routes_ = std::make_unique<Routes>(std::move(config), model, engine, metrics);
  BATON_ASSIGN_OR_RETURN(
      api->server_,
      http::Server::listen(loop, address, {},
                           [routes = api->routes_.get()](std::shared_ptr<http::Exchange> exchange) {
                             routes->handle(exchange);
                           }));
  return api;
}

const HostPort& ApiServer::address() const { return server_->address(); }
void ApiServer::stop(Duration grace) { server_->stop(grace); }

}  // namespace baton::reference
