// BATON_CHECK: a broken invariant of our own code ends the process with a message.
// Bad input is never a CHECK: it is a Status.
#pragma once

#include <string_view>

namespace baton::internal {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);
}  // namespace baton::internal

#define BATON_CHECK(condition, message)                                                  \
  do {                                                                                   \
    if (!(condition)) [[unlikely]]                                                       \
      ::baton::internal::check_failed(__FILE__, __LINE__, #condition, (message));        \
  } while (false)
