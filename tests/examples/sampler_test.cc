// Sampling: greedy, reproducible, and with the distribution that the parameters ask for.
#include "examples/reference_engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

namespace baton::reference {
namespace {

constexpr int kDraws = 20000;

std::map<uint32_t, double> shares(const std::vector<float>& logits, SamplingParams params) {
  std::map<uint32_t, double> counts;
  for (int i = 0; i < kDraws; ++i) counts[sample_token(logits, params, i)] += 1.0 / kDraws;
  return counts;
}

// Logits whose softmax is these probabilities.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  return logits;
}

TEST(SamplerTest, GreedyTakesTheLargestAndOfEqualsTheFirst) {
  EXPECT_EQ(sample_token(std::vector<float>{1, 5, 5, 2}, {}, 0), 1u);
  EXPECT_EQ(sample_token(std::vector<float>{-7}, {}, 9), 0u);
  SamplingParams one{.temperature = 1.5f, .top_k = 1};
  EXPECT_EQ(sample_token(std::vector<float>{1, 5, 5, 2}, one, 3), 1u);
}

TEST(SamplerTest, DrawsWithTheModelsProbabilities) {
  const std::vector<double> p{0.1, 0.5, 0.05, 0.35};
  const auto drawn = shares(logits_of(p), {.temperature = 1.0f, .seed = 42});
  for (uint32_t i = 0; i < p.size(); ++i) EXPECT_NEAR(drawn.at(i), p[i], 0.02) << i;
}

TEST(SamplerTest, TemperatureSharpensAndFlattens) {
  const auto logits = logits_of({0.8, 0.2});
  const double cold = 1.0 / (1.0 + std::pow(0.25, 2.0));  // (0.2 / 0.8)^(1 / 0.5)
  EXPECT_NEAR(shares(logits, {.temperature = 0.5f}).at(0), cold, 0.02);
  const double hot = 1.0 / (1.0 + std::pow(0.25, 0.5));
  EXPECT_NEAR(shares(logits, {.temperature = 2.0f}).at(0), hot, 0.02);
}

TEST(SamplerTest, TopPKeepsTheSmallestSetOfThatMass) {
  const auto logits = logits_of({0.1, 0.5, 0.05, 0.35});
  const auto drawn = shares(logits, {.temperature = 1.0f, .top_p = 0.8f});
  ASSERT_EQ(drawn.size(), 2u);
  EXPECT_NEAR(drawn.at(1), 0.5 / 0.85, 0.02);
  EXPECT_NEAR(drawn.at(3), 0.35 / 0.85, 0.02);
  EXPECT_EQ(shares(logits, {.temperature = 1.0f, .top_p = 1e-6f}).size(), 1u);
}

TEST(SamplerTest, TopKComesBeforeTopP) {
  const auto logits = logits_of({0.1, 0.5, 0.05, 0.35});
  const auto three = shares(logits, {.temperature = 1.0f, .top_k = 3});
  ASSERT_EQ(three.size(), 3u);
  EXPECT_NEAR(three.at(0), 0.1 / 0.95, 0.02);
  // Of what top_k leaves (0.526, 0.368, 0.105) two make 0.88.
  EXPECT_EQ(shares(logits, {.temperature = 1.0f, .top_p = 0.85f, .top_k = 3}).size(), 2u);
  EXPECT_EQ(shares(logits, {.temperature = 1.0f, .top_k = 100}).size(), 4u);
}

TEST(SamplerTest, DependsOnSeedAndPositionAndNothingElse) {
  std::vector<float> logits(500);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i)) * 2.0f;
  const SamplingParams params{.temperature = 1.0f, .top_p = 0.95f, .seed = 7};
  std::vector<uint32_t> first;
  for (uint64_t p = 0; p < 64; ++p) first.push_back(sample_token(logits, params, p));
  // In another order, as in another batch.
  for (uint64_t p = 64; p-- > 0;) EXPECT_EQ(sample_token(logits, params, p), first[p]);
  SamplingParams other = params;
  other.seed = 8;
  int same = 0;
  for (uint64_t p = 0; p < 64; ++p) same += sample_token(logits, other, p) == first[p];
  EXPECT_LT(same, 16);
}

TEST(SamplerTest, StandsLargeLogitsAndImpossibleTokens) {
  const float none = -std::numeric_limits<float>::infinity();
  const auto drawn =
      shares({none, 1e4f, none, 1e4f}, {.temperature = 1.0f, .top_p = 0.999f, .seed = 3});
  ASSERT_EQ(drawn.size(), 2u);
  EXPECT_NEAR(drawn.at(1), 0.5, 0.02);
}

TEST(SamplerTest, ValidatesByNameAndRange) {
  EXPECT_TRUE(SamplingParams{}.validate().ok());
  EXPECT_TRUE((SamplingParams{.temperature = 2.0f, .top_p = 0.1f}).validate().ok());
  const auto says = [](SamplingParams params) { return params.validate().message(); };
  EXPECT_THAT(says({.temperature = -0.1f}), testing::HasSubstr("temperature: expected 0 to 2"));
  EXPECT_THAT(says({.temperature = 2.1f}), testing::HasSubstr("temperature"));
  EXPECT_THAT(says({.temperature = std::nanf("")}), testing::HasSubstr("temperature"));
  EXPECT_THAT(says({.top_p = 0.0f}), testing::HasSubstr("top_p"));
  EXPECT_THAT(says({.top_p = 1.1f}), testing::HasSubstr("top_p"));
}

}  // namespace
}  // namespace baton::reference
