// The fuzz target's entry function over its committed corpus and over mutations of it, so that it
// runs in every preset.
#include <gtest/gtest.h>

#include <set>

#include "tests/fuzz/codec_fuzz.h"
#include "tests/fuzz/corpus.h"
#include "transfer/protocol/codec.h"

namespace baton {
namespace {

TEST(CodecCorpus, HoldsAFrameOfEveryType) {
  std::set<uint8_t> types;
  for (const FuzzInput& input : read_corpus(BATON_CORPUS "/codec")) {
    if (fuzz_codec(input.data(), input.size())) types.insert(input[2]);
  }
  EXPECT_EQ(types.size(), std::variant_size_v<protocol::Message>)
      << "if the format changed, write the corpus anew with codec_corpus";
}

TEST(CodecCorpus, MutationsAreDecodedOrRefused) {
  const std::vector<FuzzInput> inputs = read_corpus(BATON_CORPUS "/codec");
  ASSERT_FALSE(inputs.empty());
  std::mt19937_64 random(1);
  int decoded = 0;
  constexpr int kRounds = 30'000;
  for (int i = 0; i < kRounds; ++i) {
    FuzzInput input = mutated(inputs[random() % inputs.size()], inputs, random);
    // Half of the time the header's length is right again, so that the payload is looked at.
    if (random() % 2 == 0 && input.size() >= protocol::kFrameHeaderBytes) {
      const size_t payload = input.size() - protocol::kFrameHeaderBytes;
      for (size_t j = 0; j < 4; ++j) input[4 + j] = static_cast<uint8_t>(payload >> (8 * j));
    }
    // A vector of exactly this size: the sanitizer sees a read past its end.
    const FuzzInput exact(input);
    decoded += fuzz_codec(exact.data(), exact.size());
  }
  EXPECT_GT(decoded, kRounds / 100);
  EXPECT_LT(decoded, kRounds / 2);
}

}  // namespace
}  // namespace baton
