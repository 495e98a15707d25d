// Pieces of what messages to people say. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace baton {

inline std::string number(uint64_t value) { return std::to_string(value); }

// A refusal names both values: "chunk_tokens is 64 here and 128 in the offer".
inline std::string differs(const std::string& what, uint64_t here, uint64_t there,
                           const std::string& where = "there") {
  return what + " is " + number(here) + " here and " + number(there) + " " + where;
}

}  // namespace baton
