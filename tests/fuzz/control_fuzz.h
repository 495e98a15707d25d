// What a control connection must do with any stream of bytes. Called by the libFuzzer target and by
// an ordinary test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton {

// The first byte says in pieces of how many bytes the rest comes out of the socket. Ends the
// process (BATON_CHECK) if the connection passes on other messages than the frames that stand
// there, does not end with the first wrong one, sends other bytes for a message than came, or has
// no REFUSE that fits into a frame for a HELLO that does not agree. Returns how many messages it
// passed on.
size_t fuzz_control(const uint8_t* data, size_t size);

}  // namespace baton
