#include "scheduler/segment_order.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <tuple>
#include <vector>

namespace baton::scheduler {
namespace {

TEST(LayerMajor, ByLayerThenChunkThenGroup) {
  const std::vector<uint16_t> layers = {1, 2};  // group 0 ends before group 1
  const LayerMajor order(layers, 2);
  const std::vector<SegmentPosition> expected = {
      {.group = 0, .chunk = 0, .layer = 0}, {.group = 1, .chunk = 0, .layer = 0},
      {.group = 0, .chunk = 1, .layer = 0}, {.group = 1, .chunk = 1, .layer = 0},
      {.group = 1, .chunk = 0, .layer = 1}, {.group = 1, .chunk = 1, .layer = 1}};
  for (uint32_t rank = 0; rank < expected.size(); ++rank) {
    EXPECT_EQ(order.position(rank), expected[rank]) << rank;
    EXPECT_EQ(order.rank(expected[rank]), rank);
  }
}

TEST(LayerMajor, RankAndPositionAreInverseAndAscend) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    std::vector<uint16_t> layers(1 + random() % 5);
    for (uint16_t& l : layers) l = static_cast<uint16_t>(1 + random() % 9);
    const uint32_t chunks = 1 + random() % 13;
    const LayerMajor order(layers, chunks);
    const uint32_t segments = std::accumulate(layers.begin(), layers.end(), 0u) * chunks;
    std::tuple<uint16_t, uint32_t, uint16_t> last{};
    for (uint32_t rank = 0; rank < segments; ++rank) {
      const SegmentPosition at = order.position(rank);
      ASSERT_EQ(order.rank(at), rank);
      ASSERT_LT(at.layer, layers[at.group]);
      const std::tuple here{at.layer, at.chunk, at.group};
      if (rank > 0) {
        ASSERT_LT(last, here);
      }
      last = here;
    }
  }
}

TEST(SegmentOrder, FewestUnacknowledgedBytesThenLongestWait) {
  std::vector<SendCandidate> three = {{.unacknowledged_bytes = 200, .last_sent = 1},
                                      {.unacknowledged_bytes = 100, .last_sent = 3},
                                      {.unacknowledged_bytes = 100, .last_sent = 2}};
  EXPECT_EQ(next_to_send(three), 2u);
  three[2].last_sent = 3;
  EXPECT_EQ(next_to_send(three), 1u);
  EXPECT_EQ(next_to_send({}), std::nullopt);
}

// A simulated line that acknowledges in order: a small handoff that comes while a large one is
// under way needs about twice its own segments, not the large one's.
TEST(SegmentOrder, ASmallHandoffDoesNotWaitBehindALargeOne) {
  constexpr uint64_t kBytes = 1000;
  constexpr uint64_t kWindow = 8 * kBytes;
  struct Handoff {
    int to_send;
    uint64_t unacknowledged = 0;
    uint64_t last_sent = 0;
  };
  std::vector<Handoff> handoffs = {{1000}, {0}};
  std::vector<size_t> line;
  uint64_t sequence = 0;
  int sent_until_small_done = 0;
  for (int step = 0; step < 2000; ++step) {
    if (step == 20) handoffs[1].to_send = 5;  // the small one comes later
    std::vector<SendCandidate> candidates;
    std::vector<size_t> whose;
    for (size_t i = 0; i < handoffs.size(); ++i) {
      if (handoffs[i].to_send == 0 || handoffs[i].unacknowledged == kWindow) continue;
      candidates.push_back({handoffs[i].unacknowledged, handoffs[i].last_sent});
      whose.push_back(i);
    }
    if (const auto next = next_to_send(candidates)) {
      Handoff& h = handoffs[whose[*next]];
      --h.to_send;
      h.unacknowledged += kBytes;
      h.last_sent = ++sequence;
      line.push_back(whose[*next]);
    } else {
      handoffs[line.front()].unacknowledged -= kBytes;
      line.erase(line.begin());
    }
    if (step > 20 && handoffs[1].to_send == 0 && sent_until_small_done == 0) {
      sent_until_small_done = step - 20;
    }
  }
  EXPECT_GT(sent_until_small_done, 0);
  EXPECT_LE(sent_until_small_done, 10);
}

TEST(SegmentOrder, EqualHandoffsAlternate) {
  std::vector<SendCandidate> three(3);
  std::vector<size_t> served;
  for (uint64_t sequence = 1; sequence <= 6; ++sequence) {
    const size_t next = *next_to_send(three);
    served.push_back(next);
    three[next].last_sent = sequence;
    three[next].unacknowledged_bytes += 1;
  }
  EXPECT_EQ(served, (std::vector<size_t>{0, 1, 2, 0, 1, 2}));
}

}  // namespace
}  // namespace baton::scheduler
