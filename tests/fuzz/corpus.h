// What the corpus tests share: the committed inputs, and mutations of them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace baton {

using FuzzInput = std::vector<uint8_t>;

// The files of a folder, by name.
std::vector<FuzzInput> read_corpus(const std::string& folder);

// A few edits: bits, runs of bytes, a cut, a piece of another input.
FuzzInput mutated(FuzzInput input, const std::vector<FuzzInput>& others, std::mt19937_64& random);

}  // namespace baton
