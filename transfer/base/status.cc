#include "transfer/base/status.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace baton {

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidArgument: return "invalid_argument";
    case Code::kNotFound: return "not_found";
    case Code::kExists: return "exists";
    case Code::kRefused: return "refused";
    case Code::kUnavailable: return "unavailable";
    case Code::kDeadlineExceeded: return "deadline_exceeded";
    case Code::kCancelled: return "cancelled";
    case Code::kResourceExhausted: return "resource_exhausted";
    case Code::kChecksum: return "checksum";
    case Code::kProtocol: return "protocol";
    case Code::kInternal: return "internal";
  }
  return "unknown";
}

Status Status::from_errno(std::string what, int errno_value) {
  char text[128];
  what += ": ";
  what += strerror_r(errno_value, text, sizeof text);
  return Status(Code::kInternal, std::move(what), errno_value);
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(code_name(code_)) + ": " + message_;
}

namespace internal {
void check_failed(const char* file, int line, const char* condition, std::string_view message) {
  std::fprintf(stderr, "%s:%d: check failed: %s: %.*s\n", file, line, condition,
               static_cast<int>(message.size()), message.data());
  std::abort();
}
}  // namespace internal

}  // namespace baton
