#include "router/http/api_error.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace baton::http {
namespace {

using nlohmann::json;

TEST(ApiError, HasOpenAisShape) {
  EXPECT_EQ(json::parse(ApiError{400, "no", "", "c"}.json()),
            json::parse(R"({"error":{"message":"no","type":"invalid_request_error",
                            "param":null,"code":"c"}})"));
  const json quoting = json::parse(ApiError{503, "\xff", "prompt", "c"}.json())["error"];
  EXPECT_EQ(quoting["message"], "\xEF\xBF\xBD");
  EXPECT_EQ(quoting["param"], "prompt");
}

TEST(ApiError, EachCodeHasAStatusATypeAndAWord) {
  constexpr struct {
    Code code;
    int status;
    const char* type;
    const char* word;
  } kExpected[] = {
      {Code::kInvalidArgument, 400, "invalid_request_error", "invalid_value"},
      {Code::kNotFound, 404, "invalid_request_error", "not_found"},
      {Code::kExists, 409, "invalid_request_error", "conflict"},
      {Code::kRefused, 409, "invalid_request_error", "conflict"},
      {Code::kUnavailable, 503, "server_error", "unavailable"},
      {Code::kDeadlineExceeded, 504, "timeout_error", "budget_exceeded"},
      {Code::kCancelled, 499, "invalid_request_error", "cancelled"},
      {Code::kResourceExhausted, 503, "server_error", "unavailable"},
      {Code::kChecksum, 500, "server_error", "internal_error"},
      {Code::kProtocol, 500, "server_error", "internal_error"},
      {Code::kInternal, 500, "server_error", "internal_error"},
  };
  ASSERT_EQ(std::size(kExpected), static_cast<size_t>(Code::kInternal));
  for (const auto& expected : kExpected) {
    const ApiError error = ApiError::of(Status(expected.code, "why"));
    SCOPED_TRACE(code_name(expected.code));
    EXPECT_EQ(error.status, expected.status);
    EXPECT_STREQ(error.type(), expected.type);
    EXPECT_EQ(error.code, expected.word);
    EXPECT_EQ(error.message, "why");
  }
}

TEST(ApiError, AStatusOfNoCodeHasATypeToo) {
  EXPECT_STREQ(ApiError::of_status(401, "").type(), "authentication_error");
  EXPECT_STREQ(ApiError::of_status(405, "").type(), "invalid_request_error");
  EXPECT_STREQ(ApiError::of_status(413, "").type(), "invalid_request_error");
  EXPECT_STREQ(ApiError::of_status(429, "").type(), "rate_limit_error");
  EXPECT_EQ(ApiError::of_status(429, "").code, "queue_full");
  EXPECT_STREQ(ApiError::of_status(502, "").type(), "server_error");
}

}  // namespace
}  // namespace baton::http
