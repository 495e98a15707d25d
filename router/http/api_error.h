// Errors as an OpenAI client reads them: the router's and the reference engine's, and the one table
// from codes to statuses and from statuses to types. Pure functions.
#pragma once

#include <string>

#include "transfer/base/status.h"

namespace baton::http {

// What an API says instead of an answer, and the HTTP status that it goes with.
struct ApiError {
  int status = 400;
  std::string message;
  std::string param;  // the request's parameter that is wrong; empty: null
  std::string code;   // one word, for programs

  // Of a request that failed after it was taken. `code` is the status's own.
  static ApiError of(const Status& status);
  static ApiError of_status(int status, std::string message);

  // As OpenAI calls it; follows from the status.
  const char* type() const;
  // {"error":{"message","type","param","code"}}; what is no UTF-8 becomes U+FFFD.
  std::string json() const;
};

// The HTTP status that goes with a code.
int http_status(Code code);

}  // namespace baton::http
