// The mailboxes between an engine's thread and the progress thread.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "transfer/receive_feed.h"
#include "transfer/send_feed.h"

namespace baton {
namespace {

TEST(SendFeedTest, WakesOnceUntilItIsDrained) {
  int wakes = 0;
  SendFeed feed(2, [&] { ++wakes; });
  feed.begin(std::vector<uint32_t>{5, 3}, 0);
  feed.layer_ready(0, 16);
  feed.layer_ready(1, 16);
  EXPECT_EQ(wakes, 1);
  const SendFeed::Update first = feed.drain();
  EXPECT_TRUE(first.begun);
  EXPECT_FALSE(first.finished);
  EXPECT_EQ(first.new_blocks, (std::vector<uint32_t>{5, 3}));
  EXPECT_EQ(first.layer_tokens, (std::vector<uint32_t>{16, 16}));
  feed.extend(std::vector<uint32_t>{9});
  EXPECT_EQ(wakes, 1);  // blocks alone are no news
  feed.layer_ready(0, 30);
  EXPECT_EQ(wakes, 2);
  const SendFeed::Update second = feed.drain();
  EXPECT_EQ(second.new_blocks, (std::vector<uint32_t>{9}));
  EXPECT_EQ(second.layer_tokens, (std::vector<uint32_t>{30, 16}));
}

TEST(SendFeedTest, CachedTokensHavePassedAllLayers) {
  SendFeed feed(3, [] {});
  feed.begin(std::vector<uint32_t>{1}, 48);
  EXPECT_EQ(feed.drain().layer_tokens, (std::vector<uint32_t>{48, 48, 48}));
}

TEST(SendFeedTest, AbortAfterFinishIsNothing) {
  SendFeed feed(1, [] {});
  feed.begin(std::vector<uint32_t>{1}, 0);
  feed.finish();
  feed.abort("dropped");
  const SendFeed::Update update = feed.drain();
  EXPECT_TRUE(update.finished);
  EXPECT_FALSE(update.aborted.has_value());
}

TEST(SendFeedTest, NothingIsLostBetweenThreads) {
  std::atomic<int> wakes{0};
  SendFeed feed(1, [&] { ++wakes; });
  constexpr uint32_t kSteps = 20'000;
  std::thread engine([&] {
    feed.begin({}, 0);
    for (uint32_t i = 1; i <= kSteps; ++i) {
      feed.extend(std::vector<uint32_t>{i});
      feed.layer_ready(0, i);
    }
    feed.finish();
  });
  std::vector<uint32_t> blocks;
  uint32_t tokens = 0;
  for (bool finished = false; !finished;) {
    const SendFeed::Update update = feed.drain();
    blocks.insert(blocks.end(), update.new_blocks.begin(), update.new_blocks.end());
    EXPECT_GE(update.layer_tokens[0], tokens);
    tokens = update.layer_tokens[0];
    EXPECT_GE(blocks.size(), tokens);  // the blocks of what is ready are always there
    finished = update.finished;
  }
  engine.join();
  EXPECT_EQ(tokens, kSteps);
  EXPECT_EQ(blocks.size(), kSteps);
  EXPECT_GE(wakes.load(), 1);
}

TEST(ReceiveFeedTest, TellsTheStateAndCallsBackOnChange) {
  int changes = 0;
  int wakes = 0;
  ReceiveFeed feed(
      2, [&] { ++wakes; }, [&] { ++changes; });
  EXPECT_EQ(feed.view().state, LoadState::kWaiting);
  feed.set_state(LoadState::kOffered, 0, {}, {});
  EXPECT_EQ(changes, 1);
  feed.accept(std::vector<uint32_t>{4, 2}, 16);
  EXPECT_EQ(wakes, 1);
  const ReceiveFeed::Update update = feed.drain();
  EXPECT_TRUE(update.accepted);
  EXPECT_EQ(update.blocks, (std::vector<uint32_t>{4, 2}));
  EXPECT_EQ(update.held_tokens, 16u);
  HandoffReport report;
  report.bytes = 99;
  feed.set_state(LoadState::kLoaded, 17, {}, report);
  EXPECT_EQ(feed.view().tokens, 17u);
  EXPECT_EQ(feed.report().bytes, 99u);
}

TEST(ReceiveFeedTest, WaitLayerDoesNotWaitForWhatAPartialLoadLacks) {
  ReceiveFeed feed(
      2, [] {}, nullptr);
  feed.layer_complete(0);
  feed.set_state(LoadState::kLoaded, 64, Status(Code::kUnavailable, "the sender died"), {});
  const TimePoint far = now() + std::chrono::seconds(60);
  EXPECT_TRUE(feed.wait_layer(0, far).ok());
  EXPECT_EQ(feed.wait_layer(1, far).message(), "the sender died");
}

TEST(ReceiveFeedTest, WaitLayerEndsWithTheLayerTheFailureOrTheDeadline) {
  ReceiveFeed feed(
      3, [] {}, nullptr);
  EXPECT_EQ(feed.wait_layer(0, now()).code(), Code::kDeadlineExceeded);
  std::thread progress([&] {
    feed.layer_complete(0);
    feed.set_state(LoadState::kFailed, 0, Status(Code::kUnavailable, "gone"), {});
  });
  const TimePoint far = now() + std::chrono::seconds(60);
  EXPECT_TRUE(feed.wait_layer(0, far).ok());
  EXPECT_EQ(feed.wait_layer(1, far).message(), "gone");
  progress.join();
}

}  // namespace
}  // namespace baton
