// Errors are values: Status says whether and why something failed, Result<T> is a T or a Status.
//
// Thread safety: plain values, externally synchronised.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "transfer/base/check.h"

namespace baton {

enum class Code : uint8_t {
  kOk = 0,
  kInvalidArgument,    // the caller's mistake; the message names the value and what was expected
  kNotFound,           // no such handoff, chunk, file …
  kExists,             // already there
  kRefused,            // the other side said no; the message carries its reason
  kUnavailable,        // cannot be reached or is shutting down; another try may succeed
  kDeadlineExceeded,   // a time bound passed
  kCancelled,          // somebody asked for it to stop
  kResourceExhausted,  // a bound of ours is reached (slots, queue, memory); another try may succeed
  kChecksum,           // bytes do not verify
  kProtocol,           // the other side sent what it must not send
  kInternal,           // the system failed us; native() keeps errno or the library's code
};

// The code's name as it appears in logs and metrics, e.g. "deadline_exceeded".
const char* code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message, int native = 0)
      : code_(code), native_(native), message_(std::move(message)) {}

  // An error of the C library: "<what>: <strerror(errno_value)>", native() == errno_value.
  static Status from_errno(std::string what, int errno_value);

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  int native() const { return native_; }
  const std::string& message() const { return message_; }
  // Whether the same call may succeed later without the caller changing anything.
  bool retryable() const {
    return code_ == Code::kUnavailable || code_ == Code::kResourceExhausted ||
           code_ == Code::kDeadlineExceeded;
  }
  // "ok", or "<code name>: <message>".
  std::string to_string() const;

 private:
  Code code_ = Code::kOk;
  int native_ = 0;
  std::string message_;
};

inline Status ok_status() { return {}; }

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {  // NOLINT
    BATON_CHECK(!std::get<1>(state_).ok(), "a Result built from a Status needs an error");
  }

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  // The status; ok where a value is held.
  Status status() const { return ok() ? Status() : std::get<1>(state_); }

  T& value() & {
    BATON_CHECK(ok(), std::get<1>(state_).to_string());
    return std::get<0>(state_);
  }
  const T& value() const& {
    BATON_CHECK(ok(), std::get<1>(state_).to_string());
    return std::get<0>(state_);
  }
  T&& value() && {
    BATON_CHECK(ok(), std::get<1>(state_).to_string());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Status> state_;
};

// Returns from the enclosing function when `expr` is an error.
#define BATON_RETURN_IF_ERROR(expr)                              \
  do {                                                           \
    if (::baton::Status baton_status_ = (expr); !baton_status_.ok()) return baton_status_; \
  } while (false)

#define BATON_CONCAT_INNER(a, b) a##b
#define BATON_CONCAT(a, b) BATON_CONCAT_INNER(a, b)
// BATON_ASSIGN_OR_RETURN(auto x, make_x()): declares or assigns x, or returns the error.
#define BATON_ASSIGN_OR_RETURN(lhs, expr)                        \
  auto BATON_CONCAT(baton_result_, __LINE__) = (expr);           \
  if (!BATON_CONCAT(baton_result_, __LINE__).ok())               \
    return BATON_CONCAT(baton_result_, __LINE__).status();       \
  lhs = std::move(BATON_CONCAT(baton_result_, __LINE__)).value()

}  // namespace baton
