#include "examples/reference_engine/batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace baton::reference {
namespace {

using Item = StepPlan::Item;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr BatchLimits kRoomy{
    .block_tokens = 16, .free_blocks = 100, .prefill_tokens = 128, .max_sequences = 16};

TEST(Batcher, DecodesAndPrefillsShareAStep) {
  const BatchEntry entries[] = {{.known = 21, .computed = 20, .blocks = 2},
                                {.known = 300, .computed = 0, .blocks = 19},
                                {.known = 33, .computed = 32, .blocks = 2}};
  const StepPlan plan = plan_step(entries, kRoomy);
  EXPECT_THAT(plan.items, ElementsAre(Item{0, 1, 0}, Item{1, 128, 0}, Item{2, 1, 1}));
  EXPECT_THAT(plan.preempted, IsEmpty());
}

TEST(Batcher, PrefillsShareTheirTokensInOrderOfArrival) {
  const BatchEntry entries[] = {{.known = 100, .computed = 0, .blocks = 7},
                                {.known = 100, .computed = 10, .blocks = 7},
                                {.known = 50, .computed = 0, .blocks = 4}};
  EXPECT_THAT(plan_step(entries, kRoomy).items, ElementsAre(Item{0, 100, 0}, Item{1, 28, 0}));
}

TEST(Batcher, TheLastTokenOfAPromptIsNoPrefill) {
  const BatchEntry entries[] = {{.known = 500, .computed = 0, .blocks = 32},
                                {.known = 100, .computed = 99, .blocks = 7}};
  EXPECT_THAT(plan_step(entries, kRoomy).items, ElementsAre(Item{0, 128, 0}, Item{1, 1, 0}));
}

TEST(Batcher, TakesNoMoreSequencesThanAllowed) {
  const std::vector<BatchEntry> entries(5, {.known = 2, .computed = 1, .blocks = 1});
  BatchLimits limits = kRoomy;
  limits.max_sequences = 3;
  EXPECT_EQ(plan_step(entries, limits).items.size(), 3u);
}

TEST(Batcher, TheYoungestGivesWay) {
  const BatchEntry entries[] = {{.known = 17, .computed = 16, .blocks = 1},
                                {.known = 30, .computed = 29, .blocks = 2},
                                {.known = 40, .computed = 39, .blocks = 3}};
  BatchLimits limits = kRoomy;
  limits.free_blocks = 0;
  const StepPlan plan = plan_step(entries, limits);
  EXPECT_THAT(plan.preempted, ElementsAre(2u));
  EXPECT_THAT(plan.items, ElementsAre(Item{0, 1, 1}, Item{1, 1, 0}));
}

TEST(Batcher, WhatATransferUsesIsNotTaken) {
  const BatchEntry entries[] = {{.known = 17, .computed = 16, .blocks = 1},
                                {.known = 30, .computed = 29, .blocks = 2},
                                {.known = 40, .computed = 39, .blocks = 3, .preemptible = false}};
  BatchLimits limits = kRoomy;
  limits.free_blocks = 0;
  EXPECT_THAT(plan_step(entries, limits).preempted, ElementsAre(1u));
}

TEST(Batcher, TheYoungestWaitsWhenNobodyIsYounger) {
  const BatchEntry entries[] = {{.known = 15, .computed = 14, .blocks = 1},
                                {.known = 17, .computed = 16, .blocks = 1}};
  BatchLimits limits = kRoomy;
  limits.free_blocks = 0;
  const StepPlan plan = plan_step(entries, limits);
  EXPECT_THAT(plan.preempted, IsEmpty());
  EXPECT_THAT(plan.items, ElementsAre(Item{0, 1, 0}));
}

// Whatever the snapshot: never more blocks than there are, nobody both computed and preempted, and
// the oldest goes on unless transfers hold what it needs.
TEST(Batcher, KeepsItsPromisesOnRandomSnapshots) {
  std::mt19937 random(5);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  for (int round = 0; round < 5000; ++round) {
    BatchLimits limits{.block_tokens = 1 + below(16),
                       .free_blocks = below(4),
                       .prefill_tokens = 1 + below(40),
                       .max_sequences = 1 + below(8)};
    std::vector<BatchEntry> entries(1 + below(10));
    for (BatchEntry& entry : entries) {
      entry.known = 1 + below(100);
      entry.computed = below(entry.known);
      entry.blocks = (entry.computed + limits.block_tokens - 1) / limits.block_tokens + below(2);
      entry.preemptible = below(4) != 0;
    }
    const StepPlan plan = plan_step(entries, limits);
    int64_t free_blocks = limits.free_blocks;
    std::vector<bool> gone(entries.size(), false);
    for (const size_t victim : plan.preempted) {
      EXPECT_TRUE(entries[victim].preemptible);
      EXPECT_FALSE(gone[victim]);
      gone[victim] = true;
      free_blocks += entries[victim].blocks;
    }
    uint32_t prefilled = 0;
    for (const Item& item : plan.items) {
      const BatchEntry& entry = entries[item.entry];
      EXPECT_FALSE(gone[item.entry]);
      EXPECT_GE(item.tokens, 1u);
      EXPECT_LE(entry.computed + item.tokens, entry.known);
      EXPECT_GE((entry.blocks + item.new_blocks) * limits.block_tokens,
                entry.computed + item.tokens);
      free_blocks -= item.new_blocks;
      if (entry.known - entry.computed > 1) prefilled += item.tokens;
    }
    EXPECT_GE(free_blocks, 0);
    EXPECT_LE(prefilled, limits.prefill_tokens);
    EXPECT_LE(plan.items.size(), limits.max_sequences);
    const bool oldest_runs = !plan.items.empty() && plan.items[0].entry == 0;
    for (size_t i = 1; !oldest_runs && i < entries.size(); ++i)
      EXPECT_TRUE(gone[i] || !entries[i].preemptible || entries[i].blocks == 0);
  }
}

TEST(Batcher, LeavesRoomForTheRunningToGrow) {
  EXPECT_TRUE(room_for(10, 10, 0));
  EXPECT_FALSE(room_for(10, 10, 1));
  EXPECT_TRUE(room_for(10, 13, 3));
}

}  // namespace
}  // namespace baton::reference
