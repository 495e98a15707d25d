// What the engine does with a handoff in each of its states, and that blocks stay until released.
#include <gtest/gtest.h>

#include "tests/examples/engine_harness.h"

namespace baton::reference {
namespace {

using State = DecodeTransfer::State;

// Puts the true KV of `prompt`'s first `tokens` into the handoff's blocks, as a node would.
void fill(Harness& harness, const std::vector<uint32_t>& prompt, uint32_t tokens) {
  const SequenceChunk chunk{std::span(prompt).first(tokens), 0, harness.transfers.last().blocks};
  harness.model->forward(
      {&chunk, 1}, harness.cache->view(), [](uint32_t) {}, nullptr);
}

TEST(DecodeHandoff, LoadedPromptsCostOneComputedToken) {
  Harness harness;
  const auto prompt = prompt_of(50, 1);
  const auto told = harness.add(prompt, 6, TransferRole::kDecode);
  harness.run();
  EXPECT_EQ(harness.cache->free_blocks(), harness.cache->blocks());  // waiting pins nothing
  auto& handoff = harness.transfers.last();
  handoff.change(State::kOffered);
  harness.run();
  EXPECT_EQ(handoff.blocks.size(), 7u);
  EXPECT_FALSE(told->end);
  fill(harness, prompt, 50);
  handoff.change(State::kLoaded, 50);
  EXPECT_TRUE(handoff.done);
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt, 6));
  EXPECT_EQ(told->end->prompt_tokens_computed, 1u);
  EXPECT_TRUE(told->end->handoff.has_value());
  EXPECT_FALSE(harness.idle());  // not released yet
  EXPECT_EQ(harness.core->releasing(), 1u);
  handoff.release();
  EXPECT_TRUE(harness.idle());
}

TEST(DecodeHandoff, ComputesTheRestOfWhatWasLoadedInPart) {
  Harness harness;
  const auto prompt = prompt_of(50, 2);
  const auto told = harness.add(prompt, 6, TransferRole::kDecode);
  auto& handoff = harness.transfers.last();
  handoff.change(State::kOffered);
  harness.run();
  fill(harness, prompt, 32);
  handoff.change(State::kLoaded, 32);
  handoff.release();
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt, 6));
  EXPECT_EQ(told->end->prompt_tokens_computed, 18u);
  EXPECT_TRUE(harness.idle());
}

TEST(DecodeHandoff, FailuresAreComputedHere) {
  for (const bool after_accept : {false, true}) {
    Harness harness;
    const auto prompt = prompt_of(50, 3);
    const auto told = harness.add(prompt, 6, TransferRole::kDecode);
    auto& handoff = harness.transfers.last();
    if (after_accept) {
      handoff.change(State::kOffered);
      harness.run();
    }
    handoff.change(State::kFailed);
    EXPECT_TRUE(handoff.aborted);
    harness.run();
    EXPECT_EQ(told->tokens, tokens_alone(prompt, 6));
    EXPECT_EQ(told->end->prompt_tokens_computed, 50u);
    handoff.release();
    EXPECT_TRUE(harness.idle());
  }
}

TEST(DecodeHandoff, WhatCannotBeStartedIsComputedHere) {
  Harness harness;
  harness.transfers.refuse_with = Status(Code::kRefused, "ended before");
  const auto told = harness.add(prompt_of(20, 1), 3, TransferRole::kDecode);
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt_of(20, 1), 3));
  harness.transfers.refuse_with = Status(Code::kInvalidArgument, "nonsense");
  const auto wrong = harness.add(prompt_of(20, 1), 3, TransferRole::kDecode);
  EXPECT_EQ(wrong->end->status.code(), Code::kInvalidArgument);
  EXPECT_TRUE(harness.idle());
}

TEST(DecodeHandoff, AnOfferWaitsForRoomThatWillCome) {
  Harness harness({.block_tokens = 8, .kv_blocks = 8});
  const auto first = harness.add(prompt_of(40, 1), 4);
  harness.core->step(harness.clock);
  const auto second = harness.add(prompt_of(40, 2), 4, TransferRole::kDecode);
  auto& handoff = harness.transfers.last();
  handoff.change(State::kOffered);
  harness.core->step(harness.clock);
  EXPECT_TRUE(handoff.blocks.empty());
  EXPECT_FALSE(handoff.refused);
  harness.run();
  EXPECT_TRUE(first->end);
  EXPECT_EQ(handoff.blocks.size(), 5u);
  handoff.change(State::kFailed);
  handoff.release();
  harness.run();
  EXPECT_TRUE(second->end && second->end->status.ok());
  EXPECT_TRUE(harness.idle());
}

TEST(DecodeHandoff, AnOfferBehindALongLineIsRefusedAtOnce) {
  for (const bool refuse : {true, false}) {
    Harness harness({.block_tokens = 8, .kv_blocks = 8, .engine = {.refuse_when_full = refuse}});
    std::vector<std::shared_ptr<Told>> told;
    told.push_back(harness.add(prompt_of(40, 1), 4));
    harness.core->step(harness.clock);
    told.push_back(harness.add(prompt_of(40, 2), 4));  // waits
    told.push_back(harness.add(prompt_of(40, 3), 4, TransferRole::kDecode));
    auto& handoff = harness.transfers.last();
    handoff.change(State::kOffered);
    harness.core->step(harness.clock);
    EXPECT_EQ(handoff.refused, refuse);
    if (refuse) {
      EXPECT_NE(handoff.why.find("5 KV blocks wanted"), std::string::npos) << handoff.why;
      handoff.change(State::kFailed);
    }
    harness.run();
    if (!refuse) {
      EXPECT_EQ(handoff.blocks.size(), 5u);
      handoff.change(State::kFailed);
      harness.run();
    }
    handoff.release();
    for (uint32_t i = 0; i < 3; ++i)
      EXPECT_EQ(told[i]->tokens, tokens_alone(prompt_of(40, i + 1), 4));
    EXPECT_TRUE(harness.idle());
  }
}

TEST(DecodeHandoff, CancelledInEveryState) {
  for (const State state :
       {State::kWaiting, State::kOffered, State::kLoading, State::kLoaded, State::kFailed}) {
    Harness harness;
    const auto told = harness.add(prompt_of(50, 1), 6, TransferRole::kDecode);
    auto& handoff = harness.transfers.last();
    if (state != State::kWaiting) handoff.change(State::kOffered);
    if (state == State::kLoading || state == State::kLoaded) {
      harness.run();
      ASSERT_EQ(handoff.blocks.size(), 7u);
    }
    if (state == State::kLoaded || state == State::kFailed) handoff.change(state, 50);
    harness.core->cancel(1);
    ASSERT_TRUE(told->end) << int(state);
    EXPECT_EQ(told->end->status.code(), Code::kCancelled);
    EXPECT_TRUE(handoff.aborted || handoff.done);
    // What was lent to the handoff is not free before it says so.
    EXPECT_EQ(harness.cache->blocks() - harness.cache->free_blocks(), handoff.blocks.size());
    harness.run();
    handoff.release();
    EXPECT_TRUE(harness.idle()) << int(state);
  }
}

TEST(DecodeHandoff, ALateWordChangesNothing) {
  Harness harness;
  const auto told = harness.add(prompt_of(50, 1), 6, TransferRole::kDecode);
  auto& handoff = harness.transfers.last();
  handoff.change(State::kOffered);
  harness.core->cancel(1);
  handoff.change(State::kFailed);
  handoff.release();
  handoff.release();
  EXPECT_TRUE(harness.idle());
}

TEST(PrefillHandoff, EveryLayerIsHandedOverAsItIsComputed) {
  std::vector<uint32_t> hooked;
  HarnessSetup setup{.engine = {.prefill_tokens = 32}};
  setup.engine.before_layer_ready = [&](uint32_t layer) { hooked.push_back(layer); };
  Harness harness(setup);
  const auto told = harness.add(prompt_of(50, 1), 1, TransferRole::kPrefill);
  auto& handoff = harness.transfers.last();
  EXPECT_FALSE(handoff.begun);
  harness.core->step(harness.clock);
  EXPECT_TRUE(handoff.begun);
  EXPECT_EQ(handoff.blocks.size(), 7u);
  EXPECT_EQ(handoff.computed, (std::map<uint32_t, uint32_t>{{0, 32}, {1, 32}}));
  EXPECT_FALSE(handoff.finished);
  harness.core->step(harness.clock);
  EXPECT_EQ(handoff.computed, (std::map<uint32_t, uint32_t>{{0, 50}, {1, 50}}));
  EXPECT_TRUE(handoff.finished);
  EXPECT_FALSE(handoff.aborted);
  EXPECT_EQ(hooked, (std::vector<uint32_t>{0, 1, 0, 1}));
  ASSERT_TRUE(told->end && told->end->status.ok());
  EXPECT_EQ(told->tokens, tokens_alone(prompt_of(50, 1), 1));
  EXPECT_EQ(harness.core->releasing(), 1u);
  EXPECT_EQ(harness.cache->blocks() - harness.cache->free_blocks(), 7u);
  handoff.release();
  EXPECT_TRUE(harness.idle());
}

TEST(PrefillHandoff, WithoutAPeerTheAnswerWaitsUntilAllCanBeFetched) {
  Harness harness;
  const auto told = harness.add(prompt_of(20, 1), 1, TransferRole::kPrefill, false);
  harness.run();
  EXPECT_TRUE(harness.transfers.last().finished);
  EXPECT_FALSE(told->end);
  harness.transfers.last().release();
  ASSERT_TRUE(told->end && told->end->status.ok());
  EXPECT_TRUE(harness.idle());
}

TEST(PrefillHandoff, CancelledInEveryState) {
  enum Moment { kQueued, kRunning, kPublishing };
  for (const Moment moment : {kQueued, kRunning, kPublishing}) {
    Harness harness;
    const auto told = harness.add(prompt_of(50, 1), 1, TransferRole::kPrefill, false);
    auto& handoff = harness.transfers.last();
    if (moment >= kRunning) harness.core->step(harness.clock);
    if (moment == kPublishing) harness.run();
    harness.core->cancel(1);
    ASSERT_TRUE(told->end);
    EXPECT_EQ(told->end->status.code(), Code::kCancelled);
    EXPECT_TRUE(handoff.aborted);
    EXPECT_EQ(harness.cache->blocks() - harness.cache->free_blocks(), handoff.blocks.size());
    handoff.release();
    EXPECT_TRUE(harness.idle());
  }
}

TEST(PrefillHandoff, ItsBlocksAreNotPreempted) {
  Harness harness({.block_tokens = 4, .kv_blocks = 10});
  const auto growing = harness.add(prompt_of(6, 1), 18);  // 2 blocks, 6 in the end
  harness.core->step(harness.clock);
  const auto sending = harness.add(prompt_of(20, 2), 1, TransferRole::kPrefill);  // 5 blocks
  harness.run();
  ASSERT_TRUE(sending->end && sending->end->status.ok());
  EXPECT_FALSE(growing->end);  // needs what is being sent
  EXPECT_FALSE(harness.transfers.last().aborted);
  harness.transfers.last().release();
  harness.run();
  EXPECT_EQ(growing->tokens, tokens_alone(prompt_of(6, 1), 18));
  EXPECT_TRUE(harness.idle());
}

TEST(PrefillHandoff, WhatCannotBeStartedIsAnError) {
  Harness harness;
  harness.transfers.refuse_with = Status(Code::kExists, "runs already");
  const auto told = harness.add(prompt_of(20, 1), 1, TransferRole::kPrefill);
  ASSERT_TRUE(told->end);
  EXPECT_EQ(told->end->status.code(), Code::kExists);
  EXPECT_TRUE(harness.idle());
}

}  // namespace
}  // namespace baton::reference
