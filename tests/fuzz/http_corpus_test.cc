// The HTTP bodies' fuzz target over its committed corpus and over mutations of it.
#include <gtest/gtest.h>

#include "tests/fuzz/corpus.h"
#include "tests/fuzz/http_fuzz.h"

namespace baton {
namespace {

TEST(HttpCorpus, HoldsBodiesThatAreTakenAndThatAreNot) {
  int router = 0, engine = 0, all = 0;
  for (const FuzzInput& input : read_corpus(BATON_CORPUS "/http")) {
    const HttpVerdict verdict = fuzz_http(input.data(), input.size());
    ++all;
    router += verdict.router;
    engine += verdict.engine;
  }
  EXPECT_GE(router, 10);
  EXPECT_GE(engine, 5);
  EXPECT_GE(all - router, 3);
}

TEST(HttpCorpus, MutationsAreTakenOrRefused) {
  const std::vector<FuzzInput> inputs = read_corpus(BATON_CORPUS "/http");
  ASSERT_FALSE(inputs.empty());
  std::mt19937_64 random(3);
  int taken = 0;
  constexpr int kRounds = 5'000;
  for (int i = 0; i < kRounds; ++i) {
    const FuzzInput input = mutated(inputs[random() % inputs.size()], inputs, random);
    taken += fuzz_http(input.data(), input.size()).router;
  }
  EXPECT_GT(taken, kRounds / 50);
  EXPECT_LT(taken, kRounds * 3 / 4);
}

}  // namespace
}  // namespace baton
