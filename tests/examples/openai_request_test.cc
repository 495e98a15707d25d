#include "examples/reference_engine/openai_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace baton::reference {
namespace {

constexpr const char* kHandoff = "0f8fad5b-d9cb-469f-a165-70867728950e";

ApiRequest read(const std::string& body, bool chat = false) {
  auto parsed = parse_api_request(body, chat);
  if (const ApiError* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << body << ": " << error->message;
    return {};
  }
  return std::get<ApiRequest>(parsed);
}

TEST(ApiRequest, ReadsACompletion) {
  const ApiRequest request = read(R"({"model": "m", "prompt": "hello", "max_tokens": 7,
      "temperature": 0, "top_p": 0.5, "top_k": 3, "seed": 9, "stop": ["a", "b"], "stream": true,
      "stream_options": {"include_usage": true}, "ignore_eos": true, "return_token_ids": true,
      "user": "somebody"})");
  EXPECT_FALSE(request.chat);
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(std::get<std::string>(request.prompt), "hello");
  EXPECT_EQ(request.max_tokens, 7u);
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.sampling.top_p, 0.5f);
  EXPECT_EQ(request.sampling.top_k, 3u);
  EXPECT_EQ(request.sampling.seed, 9u);
  EXPECT_EQ(request.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(request.stream && request.include_usage && request.ignore_eos &&
              request.return_token_ids);
  EXPECT_FALSE(request.transfer);
}

TEST(ApiRequest, HasOpenAisDefaults) {
  const ApiRequest request = read(R"({"prompt": "x", "stop": null, "max_tokens": null})");
  EXPECT_EQ(request.model, "");
  EXPECT_EQ(request.sampling.temperature, 1.0f);
  EXPECT_FALSE(request.max_tokens);
  EXPECT_FALSE(request.stream || request.include_usage || request.ignore_eos);
}

TEST(ApiRequest, TakesEveryFormOfAPrompt) {
  using Tokens = std::vector<uint32_t>;
  EXPECT_EQ(std::get<Tokens>(read(R"({"prompt": [1, 2, 3]})").prompt), (Tokens{1, 2, 3}));
  EXPECT_EQ(std::get<Tokens>(read(R"({"prompt": [[4, 5]]})").prompt), (Tokens{4, 5}));
  EXPECT_EQ(std::get<std::string>(read(R"({"prompt": ["one"]})").prompt), "one");
}

TEST(ApiRequest, ReadsAChat) {
  const ApiRequest request = read(R"({"messages": [{"role": "system", "content": "Be brief."},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
      "max_completion_tokens": 5, "max_tokens": 3, "logprobs": false})",
                                  true);
  EXPECT_TRUE(request.chat);
  ASSERT_EQ(request.messages.size(), 2u);
  EXPECT_EQ(request.messages[0].role, "system");
  EXPECT_EQ(request.messages[1].content, "ab");
  EXPECT_EQ(request.max_tokens, 5u);
}

TEST(ApiRequest, ReadsAHandoff) {
  const ApiRequest request = read(std::string(R"({"prompt": "x", "kv_transfer_params": {"baton":
      {"handoff": ")") + kHandoff +
                                  R"(", "attempt": 2, "role": "prefill", "flow": "fetch",
      "peer": ["127.0.0.1:5", "[::1]:6"], "budget_ms": 1500, "salt": "s", "bytes": 3}}})");
  ASSERT_TRUE(request.transfer);
  EXPECT_EQ(request.transfer->handoff.id.to_string(), kHandoff);
  EXPECT_EQ(request.transfer->handoff.attempt, 2u);
  EXPECT_EQ(request.transfer->role, TransferRole::kPrefill);
  EXPECT_EQ(request.transfer->flow, protocol::Flow::kFetch);
  EXPECT_EQ(request.transfer->peer, (std::vector<HostPort>{{"127.0.0.1", 5}, {"::1", 6}}));
  EXPECT_EQ(request.transfer->salt, "s");
  EXPECT_EQ(request.budget, std::chrono::milliseconds(1500));
}

TEST(ApiRequest, IgnoresOtherEnginesTransferParams) {
  EXPECT_FALSE(read(R"({"prompt": "x", "kv_transfer_params": null})").transfer);
  EXPECT_FALSE(read(R"({"prompt": "x", "kv_transfer_params": {"other": 1}})").transfer);
}

struct Bad {
  const char* name;
  const char* body;
  const char* param;
  bool chat = false;
};
void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.body; }

class BadRequest : public testing::TestWithParam<Bad> {};

TEST_P(BadRequest, IsRefusedNamingTheParameter) {
  const auto parsed = parse_api_request(GetParam().body, GetParam().chat);
  const ApiError* error = std::get_if<ApiError>(&parsed);
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->status, 400);
  EXPECT_EQ(error->param, GetParam().param);
  EXPECT_FALSE(error->message.empty());
  const auto json = nlohmann::json::parse(error->json());
  EXPECT_EQ(json["error"]["type"], "invalid_request_error");
  EXPECT_TRUE(json["error"]["code"].is_string()) << error->json();
}

TEST(ApiRequest, AnErrorsCodeSaysOfWhichKindItIs) {
  const struct {
    const char* body;
    const char* code;
  } cases[] = {
      {R"({"messages": 3})", "invalid_value"},
      {R"({"messages": [{"role": 3}]})", "invalid_value"},
      {R"({})", "missing_required_parameter"},
      {R"({"messages": [{"content": "x"}]})", "missing_required_parameter"},
      {R"({"n": 2})", "unsupported_parameter"},
      {R"({"response_format": {"type": "json_object"}})", "unsupported_parameter"},
      {"3", "invalid_value"},
      {"{", "invalid_json"},
  };
  for (const auto& c : cases) {
    const auto parsed = parse_api_request(c.body, true);
    const ApiError* error = std::get_if<ApiError>(&parsed);
    ASSERT_NE(error, nullptr) << c.body;
    EXPECT_EQ(error->code, c.code) << c.body;
  }
}

#define WITH_BATON(fields) R"({"prompt": "x", "kv_transfer_params": {"baton": )" fields "}}"
#define HANDOFF R"("handoff": "0f8fad5b-d9cb-469f-a165-70867728950e")"
constexpr Bad kBad[] = {
    {"malformed", R"({"prompt": )", ""},
    {"empty_body", "", ""},
    {"invalid_utf8", "{\"prompt\": \"\xc3\x28\"}", ""},
    {"no_object", "[1]", ""},
    {"no_prompt", "{}", "prompt"},
    {"empty_prompt", R"({"prompt": ""})", "prompt"},
    {"empty_tokens", R"({"prompt": []})", "prompt"},
    {"prompt_number", R"({"prompt": 5})", "prompt"},
    {"prompt_object", R"({"prompt": {}})", "prompt"},
    {"two_prompts", R"({"prompt": ["a", "b"]})", "prompt"},
    {"two_token_prompts", R"({"prompt": [[1], [2]]})", "prompt"},
    {"nested_deeply", R"({"prompt": [[[1]]]})", "prompt"},
    {"negative_token", R"({"prompt": [-1]})", "prompt"},
    {"fractional_token", R"({"prompt": [1, 1.5]})", "prompt"},
    {"text_token", R"({"prompt": [1, "a"]})", "prompt"},
    {"model_number", R"({"prompt": "x", "model": 1})", "model"},
    {"negative_max", R"({"prompt": "x", "max_tokens": -1})", "max_tokens"},
    {"zero_max", R"({"prompt": "x", "max_tokens": 0})", "max_tokens"},
    {"huge_max", R"({"prompt": "x", "max_tokens": 9999999999})", "max_tokens"},
    {"astronomic_max", R"({"prompt": "x", "max_tokens": 99999999999999999999999})", "max_tokens"},
    {"text_max", R"({"prompt": "x", "max_tokens": "5"})", "max_tokens"},
    {"zero_completion", R"({"prompt": "x", "max_completion_tokens": 0})", "max_completion_tokens"},
    {"two_answers", R"({"prompt": "x", "n": 2})", "n"},
    {"logprobs", R"({"prompt": "x", "logprobs": 3})", "logprobs"},
    {"echo", R"({"prompt": "x", "echo": true})", "echo"},
    {"logit_bias", R"({"prompt": "x", "logit_bias": {"5": 1}})", "logit_bias"},
    {"penalty", R"({"prompt": "x", "presence_penalty": 0.5})", "presence_penalty"},
    {"format", R"({"prompt": "x", "response_format": {"type": "json_object"}})", "response_format"},
    {"temperature_text", R"({"prompt": "x", "temperature": "hot"})", "temperature"},
    {"temperature_high", R"({"prompt": "x", "temperature": 3})", ""},
    {"temperature_low", R"({"prompt": "x", "temperature": -1})", ""},
    {"top_p_zero", R"({"prompt": "x", "top_p": 0})", ""},
    {"top_k_low", R"({"prompt": "x", "top_k": -2})", "top_k"},
    {"seed_text", R"({"prompt": "x", "seed": "a"})", "seed"},
    {"stop_number", R"({"prompt": "x", "stop": 5})", "stop"},
    {"stop_empty", R"({"prompt": "x", "stop": [""]})", "stop"},
    {"stream_text", R"({"prompt": "x", "stream": "yes"})", "stream"},
    {"stream_options", R"({"prompt": "x", "stream_options": 1})", "stream_options"},
    {"ignore_eos", R"({"prompt": "x", "ignore_eos": 1})", "ignore_eos"},
    {"params_text", R"({"prompt": "x", "kv_transfer_params": "a"})", "kv_transfer_params"},
    {"baton_text", WITH_BATON("5"), "kv_transfer_params.baton"},
    {"no_handoff", WITH_BATON("{}"), "kv_transfer_params.baton.handoff"},
    {"bad_handoff", WITH_BATON(R"({"handoff": "x"})"), "kv_transfer_params.baton.handoff"},
    {"no_role", WITH_BATON("{" HANDOFF "}"), "kv_transfer_params.baton.role"},
    {"bad_role", WITH_BATON("{" HANDOFF R"(, "role": "x"})"), "kv_transfer_params.baton.role"},
    {"bad_flow", WITH_BATON("{" HANDOFF R"(, "role": "decode", "flow": "x"})"),
     "kv_transfer_params.baton.flow"},
    {"bad_peer", WITH_BATON("{" HANDOFF R"(, "role": "decode", "peer": ["x"]})"),
     "kv_transfer_params.baton.peer"},
    {"zero_budget", WITH_BATON("{" HANDOFF R"(, "role": "decode", "budget_ms": 0})"),
     "kv_transfer_params.baton.budget_ms"},
    {"zero_attempt", WITH_BATON("{" HANDOFF R"(, "role": "decode", "attempt": 0})"),
     "kv_transfer_params.baton.attempt"},
    {"no_messages", "{}", "messages", true},
    {"empty_messages", R"({"messages": []})", "messages", true},
    {"messages_text", R"({"messages": "hi"})", "messages", true},
    {"message_text", R"({"messages": ["hi"]})", "messages", true},
    {"no_chat_role", R"({"messages": [{"content": "x"}]})", "messages", true},
    {"content_number", R"({"messages": [{"role": "user", "content": 5}]})", "messages", true},
    {"image", R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})", "messages",
     true},
    {"tools", R"({"messages": [{"role": "user", "content": "x"}], "tools": [{}]})", "tools", true},
};
INSTANTIATE_TEST_SUITE_P(ApiRequest, BadRequest, testing::ValuesIn(kBad),
                         [](const auto& info) { return info.param.name; });

TEST(ApiRequest, RefusesWhatIsNestedSoDeepThatReadingItWouldNeedAllStack) {
  const auto nested = [](size_t levels) {
    return R"({"prompt": [1, )" + std::string(levels, '[') + std::string(levels, ']') + "]}";
  };
  for (const size_t levels : {200, 1'000'000}) {
    const auto parsed = parse_api_request(nested(levels), false);
    const ApiError* error = std::get_if<ApiError>(&parsed);
    ASSERT_NE(error, nullptr);
    EXPECT_THAT(error->message, testing::HasSubstr("128 deep"));
  }
  const auto parsed = parse_api_request(nested(100), false);
  EXPECT_THAT(std::get<ApiError>(parsed).message, testing::HasSubstr("no token id"));
}

TEST(ApiRequest, WhatAnErrorQuotesEndsWithAWholeCharacter) {
  const auto parsed =
      parse_api_request(R"({"prompt": [1, ")" + std::string(58, 'x') + R"(é"]})", false);
  const ApiError* error = std::get_if<ApiError>(&parsed);
  ASSERT_NE(error, nullptr);
  EXPECT_THAT(error->message, testing::HasSubstr("xxx…, which"));
}

}  // namespace
}  // namespace baton::reference
