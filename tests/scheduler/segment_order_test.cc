#include "scheduler/segment_order.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace baton::scheduler {
namespace {

TEST(SegmentOrder, LayerMajor) {
  const std::set<SegmentPosition, LayerMajor> ready = {{.layer = 1, .chunk = 0},
                                                       {.layer = 0, .chunk = 1},
                                                       {.layer = 0, .chunk = 0},
                                                       {.layer = 0, .chunk = 0, .group = 1}};
  const std::vector<SegmentPosition> order(ready.begin(), ready.end());
  const std::vector<SegmentPosition> expected = {{.layer = 0, .chunk = 0},
                                                 {.layer = 0, .chunk = 0, .group = 1},
                                                 {.layer = 0, .chunk = 1},
                                                 {.layer = 1, .chunk = 0}};
  EXPECT_EQ(order, expected);
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
