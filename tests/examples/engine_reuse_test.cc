// An engine that looks into its own node's tiers before it computes a prompt, and keeps what it
// computed there.
#include <gtest/gtest.h>

#include "tests/examples/engine_harness.h"

namespace baton::reference {
namespace {

using State = DecodeTransfer::State;

HarnessSetup reusing() {
  HarnessSetup setup;
  setup.engine.reuse = true;
  return setup;
}

// For a request without a handoff: what is kept, then what is loaded, in the order they are
// started.
constexpr size_t kKeep = 0;
constexpr size_t kLoad = 1;

void fill_loaded(Harness& harness, const std::vector<uint32_t>& prompt, uint32_t tokens) {
  const SequenceChunk chunk{std::span(prompt).first(tokens), 0, harness.transfers.at(kLoad).blocks};
  harness.model->forward(
      {&chunk, 1}, harness.cache->view(), [](uint32_t) {}, nullptr);
}

TEST(EngineReuse, AMissIsComputedAndKept) {
  Harness harness(reusing());
  const auto prompt = prompt_of(50, 1);
  const auto told = harness.add(prompt, 6);
  harness.run();
  EXPECT_TRUE(told->tokens.empty());  // the tiers have not answered yet
  harness.transfers.at(kLoad).change(State::kFailed);
  harness.transfers.at(kLoad).release();
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt, 6));
  EXPECT_EQ(told->end->prompt_tokens_computed, 50u);
  const auto& keep = harness.transfers.at(kKeep);
  EXPECT_TRUE(keep.begun && keep.finished);
  EXPECT_EQ(keep.cached, 0u);
  EXPECT_EQ(keep.computed.at(0), 50u);
  EXPECT_FALSE(harness.idle());  // what is kept is still being read out of the blocks
  harness.transfers.at(kKeep).release();
  EXPECT_TRUE(harness.idle());
}

TEST(EngineReuse, WhatWasLoadedIsNotComputedAndTheRestIsKept) {
  Harness harness(reusing());
  const auto prompt = prompt_of(50, 2);
  const auto told = harness.add(prompt, 6);
  harness.transfers.at(kLoad).change(State::kOffered);
  harness.run();
  fill_loaded(harness, prompt, 32);
  harness.transfers.at(kLoad).change(State::kLoaded, 32);
  EXPECT_TRUE(harness.transfers.at(kLoad).done);
  harness.transfers.at(kLoad).release();
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt, 6));
  EXPECT_EQ(told->end->prompt_tokens_computed, 18u);
  EXPECT_EQ(harness.transfers.at(kKeep).cached, 32u);
  EXPECT_EQ(harness.transfers.at(kKeep).computed.at(1), 50u);
  harness.transfers.at(kKeep).release();
  EXPECT_TRUE(harness.idle());
}

TEST(EngineReuse, ALoadThatFailsInItsBlocksIsComputedThere) {
  Harness harness(reusing());
  const auto prompt = prompt_of(50, 3);
  const auto told = harness.add(prompt, 6);
  harness.transfers.at(kLoad).change(State::kOffered);
  harness.run();
  ASSERT_FALSE(harness.transfers.at(kLoad).blocks.empty());
  harness.transfers.at(kLoad).change(State::kFailed);
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt, 6));
  EXPECT_EQ(told->end->prompt_tokens_computed, 50u);
  EXPECT_FALSE(harness.idle());
  harness.transfers.at(kKeep).release();
  EXPECT_FALSE(harness.idle());
  harness.transfers.at(kLoad).release();
  EXPECT_TRUE(harness.idle());
}

TEST(EngineReuse, APrefillerLoadsWhatItHasAndHandsOffAllOfIt) {
  Harness harness(reusing());
  const auto prompt = prompt_of(50, 4);
  const auto told = harness.add(prompt, 1, TransferRole::kPrefill);
  auto& handoff = harness.transfers.at(0);
  harness.transfers.at(kLoad).change(State::kOffered);
  harness.run();
  EXPECT_FALSE(handoff.begun);
  fill_loaded(harness, prompt, 50);
  harness.transfers.at(kLoad).change(State::kLoaded, 50);
  harness.transfers.at(kLoad).release();
  harness.run();
  EXPECT_TRUE(handoff.begun && handoff.finished);
  EXPECT_EQ(handoff.cached, 49u);  // the last token is computed, for its logits
  EXPECT_EQ(handoff.computed.at(0), 50u);
  EXPECT_EQ(told->tokens, tokens_alone(prompt, 1));
  EXPECT_EQ(told->end->prompt_tokens_computed, 1u);
  handoff.release();
  EXPECT_TRUE(harness.idle());
}

TEST(EngineReuse, ADecodersHandoffIsLeftAsItIs) {
  Harness harness(reusing());
  const auto told = harness.add(prompt_of(50, 5), 2, TransferRole::kDecode);
  EXPECT_EQ(&harness.transfers.last(), &harness.transfers.at(0));
  harness.transfers.at(0).change(State::kFailed);
  harness.transfers.at(0).release();
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt_of(50, 5), 2));
}

TEST(EngineReuse, WithoutRoomForSessionsItComputes) {
  Harness harness(reusing());
  harness.transfers.refuse_with = Status(Code::kResourceExhausted, "too many handoffs");
  const auto told = harness.add(prompt_of(50, 6), 3);
  harness.run();
  EXPECT_EQ(told->tokens, tokens_alone(prompt_of(50, 6), 3));
  EXPECT_TRUE(harness.idle());
}

TEST(EngineReuse, ARequestThatIsCancelledWhileItLoadsKeepsItsBlocksUntilReleased) {
  Harness harness(reusing());
  const auto told = harness.add(prompt_of(50, 7), 3);
  harness.transfers.at(kLoad).change(State::kOffered);
  harness.run();
  harness.core->cancel(1);
  EXPECT_EQ(told->end->status.code(), Code::kCancelled);
  EXPECT_TRUE(harness.transfers.at(kLoad).aborted);
  harness.transfers.at(kKeep).release();
  EXPECT_FALSE(harness.idle());
  harness.transfers.at(kLoad).release();
  EXPECT_TRUE(harness.idle());
}

}  // namespace
}  // namespace baton::reference
