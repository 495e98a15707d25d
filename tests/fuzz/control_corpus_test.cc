// The control connection's fuzz target over its committed corpus and over mutations of it.
#include <gtest/gtest.h>

#include "tests/fuzz/control_fuzz.h"
#include "tests/fuzz/corpus.h"

namespace baton {
namespace {

TEST(ControlCorpus, StreamsOfSeveralFramesArePassedOnInPiecesOfAnySize) {
  size_t longest = 0;
  for (FuzzInput input : read_corpus(BATON_CORPUS "/control")) {
    const size_t whole = fuzz_control(input.data(), input.size());
    longest = std::max(longest, whole);
    for (const uint8_t piece : {0, 6, 7, 100, 255}) {
      input[0] = piece;
      EXPECT_EQ(fuzz_control(input.data(), input.size()), whole);
    }
  }
  EXPECT_GE(longest, 8u);
}

TEST(ControlCorpus, MutationsArePassedOnOrEndTheConnection) {
  const std::vector<FuzzInput> inputs = read_corpus(BATON_CORPUS "/control");
  ASSERT_FALSE(inputs.empty());
  std::mt19937_64 random(2);
  size_t passed = 0;
  constexpr int kRounds = 2'000;
  for (int i = 0; i < kRounds; ++i) {
    const FuzzInput input = mutated(inputs[random() % inputs.size()], inputs, random);
    passed += fuzz_control(input.data(), input.size());
  }
  EXPECT_GT(passed, kRounds / 4u);
}

}  // namespace
}  // namespace baton
