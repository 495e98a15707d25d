#include "scheduler/eviction_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "scheduler/age_per_use.h"
#include "scheduler/eviction.h"
#include "scheduler/ghost_keys.h"
#include "scheduler/s3_fifo.h"

namespace baton::scheduler {
namespace {

constexpr EvictionKind kAll[] = {EvictionKind::kLru, EvictionKind::kS3Fifo,
                                 EvictionKind::kAgePerUse};

// Keeps `room` keys by a policy, as a tier does: an item is a place.
class Cache {
 public:
  Cache(EvictionKind kind, size_t room) : policy_(EvictionPolicy::create(kind)), room_(room) {}

  // Whether it was there; what left for it is in `left`.
  bool ask(uint64_t key, bool tail = false) {
    if (const auto found = items_.find(key); found != items_.end()) {
      policy_->use(found->second);
      return true;
    }
    if (items_.size() == room_) evict();
    Item item = static_cast<Item>(keys_.size());
    if (!free_.empty()) {
      item = free_.back();
      free_.pop_back();
    } else {
      keys_.emplace_back();
    }
    keys_[item] = key;
    items_[key] = item;
    policy_->insert(item, {key, tail});
    return false;
  }
  std::optional<uint64_t> evict() {
    const std::optional<Item> item = policy_->evict();
    if (!item) return std::nullopt;
    const uint64_t key = keys_[*item];
    EXPECT_EQ(items_.erase(key), 1u);
    free_.push_back(*item);
    return key;
  }
  void remove(uint64_t key) {
    policy_->remove(items_.at(key));
    free_.push_back(items_.at(key));
    items_.erase(key);
  }
  void hold(uint64_t key) { policy_->hold(items_.at(key)); }
  void release(uint64_t key) { policy_->release(items_.at(key)); }
  bool has(uint64_t key) const { return items_.contains(key); }
  std::vector<uint64_t> drain() {
    std::vector<uint64_t> left;
    while (const auto key = evict()) left.push_back(*key);
    return left;
  }
  const EvictionPolicy& policy() const { return *policy_; }

 private:
  std::unique_ptr<EvictionPolicy> policy_;
  const size_t room_;
  std::map<uint64_t, Item> items_;
  std::vector<uint64_t> keys_;
  std::vector<Item> free_;
};

using Keys = std::vector<uint64_t>;

TEST(EvictionPolicy, NamesAreReadAsTheyAreWritten) {
  for (const EvictionKind kind : kAll) {
    const auto parsed = parse_eviction(eviction_name(kind));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, kind);
  }
  const auto wrong = parse_eviction("LRU");
  EXPECT_EQ(wrong.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(wrong.status().message(),
            "'LRU' is no eviction policy: there are lru, s3fifo, age-per-use");
}

TEST(EvictionPolicy, LruIsInOrderOfUse) {
  Cache cache(EvictionKind::kLru, 4);
  for (const uint64_t key : {1, 2, 3, 1, 4}) cache.ask(key);
  cache.ask(5);
  EXPECT_EQ(cache.drain(), (Keys{3, 1, 4, 5}));
}

// A request's chunks, from the last to the first: what is evicted first is an end, whoever decides.
TEST(EvictionPolicy, TheEndOfAChainLeavesBeforeItsBeginning) {
  for (const EvictionKind kind : kAll) {
    SCOPED_TRACE(eviction_name(kind));
    Cache cache(kind, 100);
    for (const uint64_t chain : {100, 200})
      for (uint64_t chunk = 8; chunk-- > 0;) cache.ask(chain + chunk);
    for (uint64_t chunk = 4; chunk-- > 0;) cache.ask(100 + chunk);
    std::map<uint64_t, uint64_t> first_left;  // of a chain: all before it are still there
    for (const uint64_t key : cache.drain()) {
      const auto [at, first] = first_left.try_emplace(key / 100, key);
      EXPECT_TRUE(first || key < at->second) << key << " left after " << at->second;
      at->second = key;
    }
  }
}

TEST(EvictionPolicy, WhatIsHeldStaysAndIsRecentWhenItIsReleased) {
  for (const EvictionKind kind : kAll) {
    SCOPED_TRACE(eviction_name(kind));
    Cache cache(kind, 3);
    for (const uint64_t key : {1, 2, 3}) cache.ask(key);
    for (const uint64_t key : {1, 2}) cache.hold(key);
    EXPECT_EQ(cache.evict(), 3);
    EXPECT_EQ(cache.evict(), std::nullopt);
    EXPECT_EQ(cache.policy().size(), 2u);
    cache.ask(4);
    cache.release(1);
    cache.release(2);
    EXPECT_EQ(cache.drain(), (Keys{4, 1, 2}));
    EXPECT_EQ(cache.policy().size(), 0u);
  }
}

TEST(EvictionPolicy, WhatIsRemovedIsForgotten) {
  for (const EvictionKind kind : kAll) {
    SCOPED_TRACE(eviction_name(kind));
    Cache cache(kind, 3);
    for (const uint64_t key : {1, 2, 3}) cache.ask(key);
    cache.hold(1);
    EXPECT_EQ(cache.evict(), 2);  // 1 is passed over
    cache.remove(1);
    cache.remove(3);
    EXPECT_EQ(cache.policy().size(), 0u);
    EXPECT_EQ(cache.evict(), std::nullopt);
    for (const uint64_t key : {1, 3}) cache.ask(key);  // in the same places
    EXPECT_EQ(cache.drain(), (Keys{1, 3}));
  }
}

// Whatever happens, each one that is kept leaves once, and none that is held.
TEST(EvictionPolicy, KeepsItsBooks) {
  for (const EvictionKind kind : kAll) {
    SCOPED_TRACE(eviction_name(kind));
    constexpr size_t kRoom = 24;
    Cache cache(kind, kRoom);
    std::set<uint64_t> kept, held;
    std::mt19937 random(11);
    for (int step = 0; step < 50'000; ++step) {
      const uint64_t key = random() % 64;
      switch (random() % 8) {
        case 0:
          if (held.size() < kRoom / 2 && kept.contains(key) && held.insert(key).second)
            cache.hold(key);
          break;
        case 1:
          if (held.erase(key) != 0) cache.release(key);
          break;
        case 2:
          if (kept.erase(key) != 0) cache.remove(key);
          held.erase(key);
          break;
        case 3:
          if (const auto left = cache.evict()) {
            ASSERT_FALSE(held.contains(*left));
            ASSERT_EQ(kept.erase(*left), 1u);
          } else {
            ASSERT_EQ(held, kept);
          }
          break;
        default:
          ASSERT_EQ(cache.ask(key, key % 16 == 0), kept.contains(key));
          kept.insert(key);
          std::erase_if(kept, [&](uint64_t k) { return !cache.has(k); });
          for (const uint64_t k : held) ASSERT_TRUE(kept.contains(k));
      }
      ASSERT_EQ(cache.policy().size(), kept.size());
      ASSERT_LE(cache.policy().remembered(), kRoom * S3Fifo::kRememberedPerKept);
    }
  }
}

// Against the plain order of use that other owners have.
TEST(EvictionPolicy, LruIsLruOrder) {
  Cache cache(EvictionKind::kLru, 16);
  LruOrder<uint64_t> order;
  std::set<uint64_t> kept;
  std::mt19937 random(5);
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t key = random() % 48;
    if (!kept.contains(key) && kept.size() == 16) {
      kept.erase(*order.oldest());
      order.remove(*order.oldest());
    }
    order.touch(key);
    ASSERT_EQ(cache.ask(key), !kept.insert(key).second);
  }
  EXPECT_EQ(cache.policy().remembered(), 0u);
}

// The three queues as lists that are searched.
class PlainS3Fifo {
 public:
  explicit PlainS3Fifo(size_t room) : room_(room) {}
  bool ask(uint64_t key) {
    for (auto* queue : {&small_, &main_})
      for (auto& [k, uses] : *queue)
        if (k == key) {
          uses = std::min(uses + 1, 3);
          return true;
        }
    if (small_.size() + main_.size() == room_) evict();
    const bool back = remembered_.contains(key);
    remembered_.erase(key);
    (back ? main_ : small_).push_back({key, 0});
    return false;
  }

 private:
  void evict() {
    while (true) {
      const bool from_small = small_.size() * 10 >= room_ || main_.empty();
      auto& queue = from_small ? small_ : main_;
      auto [key, uses] = queue.front();
      queue.pop_front();
      if (uses != 0) {
        main_.push_back({key, from_small ? 0 : uses - 1});
        continue;
      }
      if (from_small) {
        remembered_.insert(key);
        left_.push_back(key);
        if (left_.size() > 3 * room_) {
          const uint64_t oldest = left_.front();
          left_.pop_front();
          if (std::find(left_.begin(), left_.end(), oldest) == left_.end())
            remembered_.erase(oldest);
        }
      }
      return;
    }
  }
  const size_t room_;
  std::deque<std::pair<uint64_t, int>> small_, main_;
  std::set<uint64_t> remembered_;
  std::deque<uint64_t> left_;  // from the small queue, the last of them
};

// Most often small numbers, as what is used again and again.
uint64_t skewed(std::mt19937& random, uint64_t keys) {
  const double u = std::uniform_real_distribution<>(0, 1)(random);
  return static_cast<uint64_t>(u * u * u * static_cast<double>(keys));
}

TEST(EvictionPolicy, S3FifoIsThreeQueues) {
  for (const size_t room : {10, 40}) {
    Cache cache(EvictionKind::kS3Fifo, room);
    PlainS3Fifo plain(room);
    std::mt19937 random(3);
    size_t hits = 0;
    for (int step = 0; step < 20'000; ++step) {
      const uint64_t key = skewed(random, 200);
      const bool hit = plain.ask(key);
      ASSERT_EQ(cache.ask(key), hit) << "step " << step;
      hits += hit;
    }
    EXPECT_GT(hits, 2'000u);
  }
}

TEST(EvictionPolicy, S3FifoLetsTailsGoFirst) {
  Cache cache(EvictionKind::kS3Fifo, 10);
  for (const uint64_t key : {1, 2, 3}) cache.ask(key);
  for (const uint64_t key : {4, 5}) cache.ask(key, true);
  cache.ask(5);  // one that is used again is no tail like others
  EXPECT_EQ(cache.evict(), 4);
  EXPECT_EQ(cache.evict(), 1);
}

// All that is kept, looked through for the one of the greatest age per use.
class PlainAgePerUse {
 public:
  explicit PlainAgePerUse(size_t room) : room_(room) {}
  bool ask(uint64_t key, bool tail) {
    const auto found = kept_.find(key);
    if (found == kept_.end() && kept_.size() == room_) evict();
    ++time_;
    if (found != kept_.end()) {
      found->second = {std::min(found->second.uses + 1, 4), tail, time_};
      return true;
    }
    const int before = remembered_.contains(key) ? remembered_[key] : 0;
    remembered_.erase(key);
    kept_[key] = {std::min(before + 1, 4), tail, time_};
    return false;
  }

 private:
  struct Kept {
    int uses;
    bool tail;
    uint64_t at;
  };
  void evict() {
    const auto worth = [&](const Kept& k) {
      const auto age = static_cast<double>(time_ - k.at);
      return k.tail && k.uses == 1 ? age * 20 : age / k.uses;
    };
    auto oldest = kept_.begin();
    for (auto at = kept_.begin(); at != kept_.end(); ++at) {
      const double more = worth(at->second) - worth(oldest->second);
      // Of equals those of fewer uses: the policy looks at them first.
      if (more > 1e-9 || (more > -1e-9 && rank(at->second) < rank(oldest->second))) oldest = at;
    }
    if (rank(oldest->second) != 0) {
      remembered_[oldest->first] = oldest->second.uses;
      left_.push_back(oldest->first);
      if (left_.size() > room_) {
        const uint64_t first = left_.front();
        left_.pop_front();
        if (std::find(left_.begin(), left_.end(), first) == left_.end()) remembered_.erase(first);
      }
    }
    kept_.erase(oldest);
  }
  static int rank(const Kept& k) { return k.tail && k.uses == 1 ? 0 : k.uses; }

  const size_t room_;
  uint64_t time_ = 0;
  std::map<uint64_t, Kept> kept_;
  std::map<uint64_t, int> remembered_;
  std::deque<uint64_t> left_;  // the last of them
};

TEST(EvictionPolicy, AgePerUseIsTheGreatestAgeOfAll) {
  for (const size_t room : {10, 40}) {
    Cache cache(EvictionKind::kAgePerUse, room);
    PlainAgePerUse plain(room);
    std::mt19937 random(4);
    size_t hits = 0;
    for (int step = 0; step < 20'000; ++step) {
      const uint64_t key = skewed(random, 200);
      const bool tail = key % 5 == 0;
      const bool hit = plain.ask(key, tail);
      ASSERT_EQ(cache.ask(key, tail), hit) << "step " << step;
      hits += hit;
    }
    EXPECT_GT(hits, 2'000u);
  }
}

// A few that are used again and again, among many that are used once: a scan.
TEST(EvictionPolicy, AScanDoesNotPushOutWhatIsUsedOften) {
  const auto found_of = [](EvictionKind kind) {
    Cache cache(kind, 100);
    size_t found = 0;
    uint64_t next = 1'000;
    for (int round = 0; round < 100; ++round) {
      for (uint64_t key = 0; key < 20; ++key) found += cache.ask(key);
      for (int i = 0; i < 150; ++i) cache.ask(next++);
    }
    return found;
  };
  EXPECT_EQ(found_of(EvictionKind::kLru), 0u);
  EXPECT_GT(found_of(EvictionKind::kS3Fifo), 1'800u);
  EXPECT_GT(found_of(EvictionKind::kAgePerUse), 1'800u);
}

TEST(GhostKeys, RemembersTheLastOnes) {
  GhostKeys ghosts;
  for (uint64_t key = 0; key < 10; ++key) ghosts.remember(key, static_cast<uint8_t>(key), 4);
  EXPECT_EQ(ghosts.size(), 4u);
  EXPECT_EQ(ghosts.recall(5), std::nullopt);
  EXPECT_EQ(ghosts.recall(6), 6);
  EXPECT_EQ(ghosts.recall(6), std::nullopt);
  // What left again counts from then on.
  ghosts.remember(7, 70, 4);
  for (uint64_t key = 20; key < 23; ++key) ghosts.remember(key, 0, 4);
  EXPECT_EQ(ghosts.recall(7), 70);
  EXPECT_EQ(ghosts.recall(9), std::nullopt);
  // What comes back each time leaves nothing behind.
  for (int i = 0; i < 1'000; ++i) {
    ghosts.remember(50, 1, 4);
    EXPECT_EQ(ghosts.recall(50), 1);
  }
  EXPECT_EQ(ghosts.size(), 0u);
}

}  // namespace
}  // namespace baton::scheduler
