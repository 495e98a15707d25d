// UTF-8, one character at a time (Unicode 15, table 3-7: no surrogates, nothing overlong).
// Thread-safe: pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace baton {

struct Utf8Step {
  enum Kind {
    kCharacter,   // `length` bytes are a character
    kInvalid,     // `length` bytes (at least 1) can never be part of one
    kIncomplete,  // all that is left may be the beginning of one
  };
  Kind kind;
  size_t length;
};
// Of the beginning of `text`, which is not empty.
Utf8Step next_utf8(std::string_view text);

// Offset of the first byte that is not UTF-8.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// At most `bytes` of the beginning, never a part of a character; what is no UTF-8 is cut anywhere.
std::string_view cut_utf8(std::string_view text, size_t bytes);

// Moves what is certain from the front of `pending` to the end of `out`, with U+FFFD for what is
// invalid; an incomplete character stays, or, with `flush`, becomes U+FFFD.
void drain_utf8(std::string& pending, std::string& out, bool flush);

}  // namespace baton
