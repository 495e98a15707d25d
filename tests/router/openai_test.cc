#include "router/openai.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace baton::router {
namespace {

using nlohmann::json;

CompletionRequest parse(const std::string& body) {
  CompletionRequest request;
  const auto error = CompletionRequest::parse(body, request);
  EXPECT_FALSE(error) << error->message;
  return request;
}

TEST(CompletionRequest, KeepsWhatItDoesNotKnowByteForByte) {
  const std::string body =
      R"({ "prompt" : "a\"}],\\" , "seed":12345678901234567890123, "t":1.50e+0,"deep":{"a":[{}]} })";
  EXPECT_EQ(parse(body).decode_body(""), body);
  EXPECT_EQ(parse(body).decode_body("{}"),
            R"({"prompt" : "a\"}],\\","seed":12345678901234567890123,"t":1.50e+0,)"
            R"("deep":{"a":[{}]},"kv_transfer_params":{}})");
  EXPECT_EQ(parse(" {} ").decode_body("{}"), R"({"kv_transfer_params":{}})");
}

TEST(CompletionRequest, PrefillAsksForOneToken) {
  const json leg = json::parse(
      parse(R"({"max_tokens":99,"max_completion_tokens":98,"min_tokens":9,"stream":true,)"
            R"("stream_options":{"include_usage":true},"n":1,"kv_transfer_params":null})")
          .prefill_body("{\"x\":1}"));
  EXPECT_EQ(leg, json::parse(R"({"max_tokens":1,"max_completion_tokens":1,"stream":false,"n":1,
                                 "kv_transfer_params":{"x":1}})"));
  EXPECT_FALSE(json::parse(parse("{}").prefill_body("{}")).contains("max_completion_tokens"));
}

TEST(CompletionRequest, OfDoubledNamesTheLastCounts) {
  EXPECT_TRUE(parse(R"({"stream":false,"stream":true})").stream());
  EXPECT_FALSE(parse(R"({"stream":true,"stream":null})").stream());
  EXPECT_EQ(parse(R"({"cache_salt":"a","cache_salt":"b\u00e9"})").cache_salt(), "bé");
}

TEST(CompletionRequest, DeeplyNestedInputNeedsNoStack) {
  const std::string deep = "{\"a\":" + std::string(200000, '[') + std::string(200000, ']') + "}";
  EXPECT_EQ(parse(deep).decode_body(""), deep);
}

TEST(CompletionRequest, TheReservedFieldIsRefusedHoweverItIsWritten) {
  CompletionRequest out;
  for (const char* body : {R"({"kv_transfer_params":{}})", R"({"kv_tr\u0061nsfer_params":1})",
                           R"({"kv_transfer_params":null,"kv_transfer_params":[]})"}) {
    const auto error = CompletionRequest::parse(body, out);
    ASSERT_TRUE(error) << body;
    EXPECT_EQ(error->param, "kv_transfer_params");
  }
}

TEST(KvTransferParams, AreTheContracts) {
  KvTransferParams params{.role = scheduler::Role::kDecode,
                          .peer = {{"h", 1}, {"h", 2}},
                          .budget = std::chrono::milliseconds(1500)};
  params.handoff.bytes[0] = 0xab;
  EXPECT_EQ(json::parse(params.to_json()),
            json::parse(R"({"baton":{"handoff":"ab000000-0000-0000-0000-000000000000","attempt":1,
                            "role":"decode","flow":"push","peer":["h:1","h:2"],
                            "budget_ms":1500}})"));
}

}  // namespace
}  // namespace baton::router
