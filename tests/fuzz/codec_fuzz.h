// What the codec must do with any bytes. Called by the libFuzzer target and by an ordinary test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton {

// Decodes `data` as a frame. Ends the process (BATON_CHECK) if a frame that decodes is not encoded
// to the same bytes again, or an error is not kProtocol. Returns whether it decoded.
bool fuzz_codec(const uint8_t* data, size_t size);

}  // namespace baton
