#include "tests/fuzz/corpus.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace baton {

std::vector<FuzzInput> read_corpus(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());  // a folder has no order
  std::vector<FuzzInput> inputs;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

FuzzInput mutated(FuzzInput input, const std::vector<FuzzInput>& others, std::mt19937_64& random) {
  for (uint64_t edits = 1 + random() % 4; edits > 0 && !input.empty(); --edits) {
    const size_t at = random() % input.size();
    const size_t length = 1 + random() % std::min<size_t>(8, input.size() - at);
    const auto first = input.begin() + static_cast<std::ptrdiff_t>(at);
    const auto last = first + static_cast<std::ptrdiff_t>(length);
    switch (random() % 6) {
      case 0:
        input[at] ^= static_cast<uint8_t>(1u << random() % 8);
        break;
      case 1:
        std::fill(first, last, random() % 2 == 0 ? 0xff : 0);
        break;
      case 2:
        input.erase(first, last);
        break;
      case 3:
        input.insert(first, length, static_cast<uint8_t>(random()));
        break;
      case 4:
        input.resize(at);
        break;
      default: {
        const FuzzInput& other = others[random() % others.size()];
        if (other.empty()) break;
        const size_t from = random() % other.size();
        input.insert(first, other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
      }
    }
  }
  return input;
}

}  // namespace baton
