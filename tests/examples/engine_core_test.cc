#include "examples/reference_engine/engine_core.h"

#include <gtest/gtest.h>

#include "tests/examples/engine_harness.h"

namespace baton::reference {
namespace {

TEST(EngineCore, AnswersAsManyTokensAsAsked) {
  Harness harness;
  const auto told = harness.add(prompt_of(20, 1), 6);
  harness.run();
  ASSERT_TRUE(told->end);
  EXPECT_TRUE(told->end->status.ok());
  EXPECT_EQ(told->end->finish, Finish::kLength);
  EXPECT_EQ(told->tokens.size(), 6u);
  EXPECT_EQ(told->end->prompt_tokens, 20u);
  EXPECT_EQ(told->end->completion_tokens, 6u);
  EXPECT_EQ(told->end->prompt_tokens_computed, 20u);
  EXPECT_TRUE(harness.idle());
}

TEST(EngineCore, BatchingChangesNoToken) {
  Harness harness;
  std::vector<std::shared_ptr<Told>> told;
  std::vector<std::vector<uint32_t>> prompts;
  for (uint32_t i = 0; i < 8; ++i) {
    prompts.push_back(prompt_of(1 + i * 7, i));
    told.push_back(harness.add(prompts.back(), 12));
    harness.core->step(harness.clock);  // so that they are at different places
  }
  harness.run();
  for (uint32_t i = 0; i < 8; ++i)
    EXPECT_EQ(told[i]->tokens, tokens_alone(prompts[i], 12)) << "request " << i;
  EXPECT_TRUE(harness.idle());
}

TEST(EngineCore, CuttingThePromptChangesNoToken) {
  const auto prompt = prompt_of(100, 5);
  const auto expected = tokens_alone(prompt, 10);
  for (const uint32_t cut : {1u, 7u, 8u, 33u, 99u, 100u}) {
    Harness harness({.engine = {.prefill_tokens = cut}});
    const auto told = harness.add(prompt, 10);
    harness.run();
    EXPECT_EQ(told->tokens, expected) << cut << " prompt tokens a step";
  }
}

TEST(EngineCore, PreemptionChangesNoToken) {
  // Three requests of 2 blocks grow to 6 each, in 10 blocks.
  Harness harness({.block_tokens = 4, .kv_blocks = 10});
  std::vector<std::shared_ptr<Told>> told;
  for (uint32_t i = 0; i < 3; ++i) told.push_back(harness.add(prompt_of(6, i), 18));
  harness.run();
  EXPECT_GT(harness.metrics.counter("baton_engine_preemptions_total", "").Value(), 0);
  for (uint32_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(told[i]->end && told[i]->end->status.ok());
    EXPECT_EQ(told[i]->tokens, tokens_alone(prompt_of(6, i), 18)) << "request " << i;
  }
  EXPECT_EQ(told[0]->end->prompt_tokens_computed, 6u);  // the oldest never gives way
  EXPECT_TRUE(harness.idle());
}

TEST(EngineCore, WhatDoesNotFitWaitsItsTurn) {
  Harness harness({.block_tokens = 8, .kv_blocks = 8});
  const auto first = harness.add(prompt_of(40, 1), 4);   // 5 blocks, 6 in the end
  const auto second = harness.add(prompt_of(33, 2), 4);  // 5 blocks
  const auto third = harness.add(prompt_of(2, 3), 4);    // 1 block, but after the second
  harness.core->step(harness.clock);
  EXPECT_EQ(harness.core->running(), 1u);
  EXPECT_EQ(harness.core->waiting(), 2u);
  harness.run();
  EXPECT_EQ(first->tokens, tokens_alone(prompt_of(40, 1), 4));
  EXPECT_EQ(second->tokens, tokens_alone(prompt_of(33, 2), 4));
  EXPECT_EQ(third->tokens, tokens_alone(prompt_of(2, 3), 4));
  EXPECT_TRUE(harness.idle());
}

TEST(EngineCore, TheLongestAnswerFillsTheCacheToTheLastBlock) {
  Harness harness({.block_tokens = 4, .kv_blocks = 5});
  const auto told = harness.add(prompt_of(9, 1), 12);  // 20 tokens computed, 1 only answered
  const auto other = harness.add(prompt_of(9, 2), 12);
  harness.run();
  EXPECT_EQ(told->tokens.size(), 12u);
  EXPECT_EQ(other->tokens, tokens_alone(prompt_of(9, 2), 12));
  EXPECT_TRUE(harness.idle());
}

TEST(EngineCore, StopsWhenTheSinkHasEnough) {
  Harness harness;
  const auto told = harness.add(prompt_of(5, 1), 50);
  told->enough_after = 3;
  harness.run();
  EXPECT_EQ(told->tokens.size(), 3u);
  EXPECT_EQ(told->end->finish, Finish::kStop);
  EXPECT_TRUE(harness.idle());
}

TEST(EngineCore, StopsAtTheEndOfText) {
  Harness harness;
  const uint32_t eos = harness.model->config().eos;
  // Some prompt makes this model say so within its first tokens; until then nothing is tested.
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const auto free_running = harness.add(prompt_of(3, seed), 8);
    harness.run();
    const auto& tokens = free_running->tokens;
    const auto at = std::find(tokens.begin(), tokens.end(), eos);
    if (at == tokens.end()) continue;
    auto told = std::make_shared<Told>();
    harness.core->add(harness.next_id++,
                      {.name = "eos", .prompt = prompt_of(3, seed), .max_tokens = 8},
                      std::make_unique<KeepingSink>(told), harness.clock);
    harness.run();
    EXPECT_EQ(told->tokens, std::vector<uint32_t>(tokens.begin(), at + 1));
    EXPECT_EQ(told->end->finish, Finish::kStop);
    return;
  }
  FAIL() << "no prompt leads to the end-of-text token";
}

TEST(EngineCore, EndsWhatIsOverItsDeadline) {
  Harness harness;
  harness.deadline = harness.clock + std::chrono::seconds(1);
  const auto told = harness.add(prompt_of(100, 1), 50);
  harness.core->step(harness.clock);
  EXPECT_EQ(harness.core->next_deadline(), harness.deadline);
  EXPECT_FALSE(told->end);
  harness.clock += std::chrono::seconds(1);
  EXPECT_FALSE(harness.core->step(harness.clock));
  ASSERT_TRUE(told->end);
  EXPECT_EQ(told->end->status.code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(harness.idle());
}

TEST(EngineCore, CancelledWhileWaitingAndWhileRunning) {
  Harness harness({.block_tokens = 8, .kv_blocks = 8});
  const auto running = harness.add(prompt_of(60, 1), 4);
  const auto waiting = harness.add(prompt_of(60, 2), 4);
  harness.core->step(harness.clock);
  harness.core->cancel(2);
  ASSERT_TRUE(waiting->end);
  EXPECT_EQ(waiting->end->status.code(), Code::kCancelled);
  EXPECT_FALSE(running->end);
  harness.core->cancel(1);
  EXPECT_EQ(running->end->status.code(), Code::kCancelled);
  EXPECT_TRUE(harness.idle());
  harness.core->cancel(1);  // nothing
  harness.core->cancel(77);
}

TEST(EngineCore, EndingTellsEverybody) {
  Harness harness;
  const auto a = harness.add(prompt_of(60, 1), 4);
  harness.core->step(harness.clock);
  const auto b = harness.add(prompt_of(60, 2), 4);
  harness.core.reset();
  EXPECT_EQ(a->end->status.code(), Code::kUnavailable);
  EXPECT_EQ(b->end->status.code(), Code::kUnavailable);
  EXPECT_EQ(harness.cache->free_blocks(), harness.cache->blocks());
}

}  // namespace
}  // namespace baton::reference
