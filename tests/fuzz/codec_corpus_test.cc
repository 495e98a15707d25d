// The fuzz target's entry function over its committed corpus and over mutations of it, so that it
// runs in every preset.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <vector>

#include "tests/fuzz/codec_fuzz.h"
#include "transfer/protocol/codec.h"

namespace baton {
namespace {

using Bytes = std::vector<uint8_t>;

std::vector<Bytes> corpus() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(BATON_CODEC_CORPUS)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());  // a folder has no order
  std::vector<Bytes> inputs;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

Bytes mutated(Bytes input, const std::vector<Bytes>& others, std::mt19937_64& random) {
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
        const Bytes& other = others[random() % others.size()];
        const size_t from = random() % other.size();
        input.insert(first, other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
      }
    }
  }
  // Half of the time the header's length is right again, so that the payload is looked at.
  if (random() % 2 == 0 && input.size() >= protocol::kFrameHeaderBytes) {
    const size_t payload = input.size() - protocol::kFrameHeaderBytes;
    for (size_t i = 0; i < 4; ++i) input[4 + i] = static_cast<uint8_t>(payload >> (8 * i));
  }
  return input;
}

TEST(CodecCorpus, HoldsAFrameOfEveryType) {
  std::set<uint8_t> types;
  for (const Bytes& input : corpus()) {
    if (fuzz_codec(input.data(), input.size())) types.insert(input[2]);
  }
  EXPECT_EQ(types.size(), std::variant_size_v<protocol::Message>)
      << "if the format changed, write the corpus anew with codec_corpus";
}

TEST(CodecCorpus, MutationsAreDecodedOrRefused) {
  const std::vector<Bytes> inputs = corpus();
  ASSERT_FALSE(inputs.empty());
  std::mt19937_64 random(1);
  int decoded = 0;
  constexpr int kRounds = 30'000;
  for (int i = 0; i < kRounds; ++i) {
    // A vector of exactly this size: the sanitizer sees a read past its end.
    const Bytes input = mutated(inputs[random() % inputs.size()], inputs, random);
    decoded += fuzz_codec(input.data(), input.size());
  }
  EXPECT_GT(decoded, kRounds / 100);
  EXPECT_LT(decoded, kRounds / 2);
}

}  // namespace
}  // namespace baton
