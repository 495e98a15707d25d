#include "router/http/api_error.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace baton::http {
namespace {

constexpr const char* kInvalidRequest = "invalid_request_error";
constexpr const char* kServerError = "server_error";

struct StatusRow {
  int status;
  const char* type;
  const char* code;  // where whoever answers has none that says more
};
constexpr StatusRow kStatuses[] = {
    {400, kInvalidRequest, "invalid_value"},   {401, "authentication_error", "invalid_api_key"},
    {404, kInvalidRequest, "not_found"},       {405, kInvalidRequest, "method_not_allowed"},
    {409, kInvalidRequest, "conflict"},        {429, "rate_limit_error", "queue_full"},
    {499, kInvalidRequest, "cancelled"},       {503, kServerError, "unavailable"},
    {504, "timeout_error", "budget_exceeded"},
};

StatusRow row_of(int status) {
  for (const StatusRow& row : kStatuses)
    if (row.status == status) return row;
  if (status >= 500) return {status, kServerError, "internal_error"};
  return {status, kInvalidRequest, "invalid_value"};
}

}  // namespace

int http_status(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return 400;
    case Code::kNotFound:
      return 404;
    case Code::kExists:
    case Code::kRefused:
      return 409;
    case Code::kCancelled:
      return 499;
    case Code::kUnavailable:
    case Code::kResourceExhausted:
      return 503;
    case Code::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

ApiError ApiError::of(const Status& status) {
  return of_status(http_status(status.code()), status.message());
}

ApiError ApiError::of_status(int status, std::string message) {
  return {status, std::move(message), "", row_of(status).code};
}

const char* ApiError::type() const { return row_of(status).type; }

std::string ApiError::json() const {
  using nlohmann::json;
  return json{{"error",
               {{"message", message},
                {"type", type()},
                {"param", param.empty() ? json() : json(param)},
                {"code", code}}}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace baton::http
