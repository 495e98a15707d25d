// What the router and the reference engine must do with any body of a completion request. Called by
// the libFuzzer target and by an ordinary test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton {

struct HttpVerdict {
  bool router = false;  // would pass it on
  bool engine = false;  // would answer it, as a completion or as a chat
};

// Ends the process (BATON_CHECK) if an error is not an OpenAI-shaped 400, a leg's body is not JSON
// or says other than the client's where it may not, or the engine takes the client's body and not
// the prefiller's.
HttpVerdict fuzz_http(const uint8_t* data, size_t size);

}  // namespace baton
