// What the reference engine must do with any bytes that are given to it as a GGUF file. Called by
// the libFuzzer target and by an ordinary test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton {

// Parses `data`, and where that works reads every value and tensor, the model's shape and
// weights, the tokenizer and the chat template. Ends the process (BATON_CHECK) if an error is not
// kInvalidArgument or a tensor lies outside of the file. Returns whether it parsed.
bool fuzz_gguf(const uint8_t* data, size_t size);

}  // namespace baton
