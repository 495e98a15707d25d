// The GGUF reader's fuzz target over its committed corpus and over mutations of it.
#include <gtest/gtest.h>

#include "tests/fuzz/corpus.h"
#include "tests/fuzz/gguf_fuzz.h"

namespace baton {
namespace {

TEST(GgufCorpus, HoldsFilesThatAreReadAndThatAreNot) {
  int parsed = 0, all = 0;
  for (const FuzzInput& input : read_corpus(BATON_CORPUS "/gguf")) {
    parsed += fuzz_gguf(input.data(), input.size());
    ++all;
  }
  EXPECT_GE(parsed, 6) << "if the writer changed, write the corpus anew with fuzz_corpus";
  EXPECT_GE(all - parsed, 3);
}

TEST(GgufCorpus, MutationsAreReadOrRefused) {
  const std::vector<FuzzInput> inputs = read_corpus(BATON_CORPUS "/gguf");
  ASSERT_FALSE(inputs.empty());
  std::mt19937_64 random(4);
  int parsed = 0;
  constexpr int kRounds = 5'000;
  for (int i = 0; i < kRounds; ++i) {
    const FuzzInput input = mutated(inputs[random() % inputs.size()], inputs, random);
    parsed += fuzz_gguf(input.data(), input.size());
  }
  EXPECT_GT(parsed, kRounds / 50);
  EXPECT_LT(parsed, kRounds * 3 / 4);
}

}  // namespace
}  // namespace baton
