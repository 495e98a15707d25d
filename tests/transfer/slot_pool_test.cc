#include "transfer/slot_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <set>
#include <thread>

namespace baton {
namespace {

constexpr size_t kPoolSlotBytes = 256;

std::shared_ptr<SlotPool> make_pool(size_t slots, size_t slot_bytes = kPoolSlotBytes) {
  auto arena = Arena::create({.bytes = slots * slot_bytes});
  EXPECT_TRUE(arena.ok()) << arena.status().to_string();
  auto pool = SlotPool::create(std::move(arena).value(), slot_bytes);
  EXPECT_TRUE(pool.ok()) << pool.status().to_string();
  return std::move(pool).value();
}

// Arenas come in whole pages: takes the slots beyond `wanted` away.
std::vector<SlotRef> keep_free(SlotPool& pool, size_t wanted) {
  std::vector<SlotRef> taken;
  while (pool.counts().free > wanted) taken.push_back(*pool.allocate());
  return taken;
}

TEST(SlotPool, CutsTheArenaIntoAlignedSlots) {
  const auto pool = make_pool(40, 100);
  EXPECT_EQ(pool->slot_bytes(), 128u);
  EXPECT_EQ(pool->counts().total, pool->arena().bytes() / 128);
  const SlotRef a = *pool->allocate();
  const SlotRef b = *pool->allocate();
  EXPECT_NE(a.id().index, b.id().index);
  EXPECT_EQ(a.bytes().size(), 128u);
  EXPECT_EQ(a.bytes().data(), pool->arena().data() + a.arena_offset());
  EXPECT_EQ(a.arena_offset(), a.id().index * 128u);
}

TEST(SlotPool, RefusesSlotsThatDoNotFit) {
  for (const size_t slot_bytes : {size_t{0}, size_t{4097}, SIZE_MAX}) {
    auto arena = Arena::create({.bytes = 4096});
    ASSERT_TRUE(arena.ok());
    EXPECT_EQ(SlotPool::create(std::move(arena).value(), slot_bytes).status().code(),
              Code::kInvalidArgument);
  }
}

TEST(SlotPool, GivesOutEachSlotOnceAndThenNone) {
  const auto pool = make_pool(16);
  std::vector<SlotRef> held;
  std::set<size_t> offsets;
  while (auto slot = pool->allocate()) {
    std::memset(slot->bytes().data(), static_cast<int>(held.size()), slot->bytes().size());
    offsets.insert(slot->arena_offset());
    held.push_back(*slot);
  }
  EXPECT_EQ(held.size(), 16u);
  EXPECT_EQ(offsets.size(), 16u);
  EXPECT_EQ(pool->counts().held, 16u);
  EXPECT_EQ(pool->counts().free, 0u);
  for (size_t i = 0; i < held.size(); ++i) {
    EXPECT_EQ(held[i].bytes().front(), static_cast<std::byte>(i));
    EXPECT_EQ(held[i].bytes().back(), static_cast<std::byte>(i));
  }
  held.pop_back();
  EXPECT_TRUE(pool->allocate().has_value());
}

TEST(SlotPool, CopiesAreReadersOfTheirOwn) {
  const auto pool = make_pool(16);
  SlotRef a = *pool->allocate();
  SlotRef b = a;
  SlotRef c = std::move(a);
  EXPECT_FALSE(a);  // NOLINT: what a moved-from reference is, is part of the contract
  EXPECT_TRUE(a.bytes().empty());
  b = c;
  b.reset();
  EXPECT_FALSE(b);
  b.reset();
  EXPECT_EQ(pool->counts().held, 1u);
  SlotRef& same = c;
  c = same;
  EXPECT_TRUE(c);
  c.reset();
  EXPECT_EQ(pool->counts().free, pool->counts().total);
}

TEST(SlotPool, EachUseHasAGenerationOfItsOwn) {
  const auto pool = make_pool(16);
  const auto rest = keep_free(*pool, 1);
  SlotRef first = *pool->allocate();
  const SlotId old = first.id();
  first.reset();
  const SlotRef second = *pool->allocate();
  EXPECT_EQ(second.id().index, old.index);
  EXPECT_GT(second.id().generation, old.generation);
}

TEST(SlotPool, ASlotWithAWriterIsQuarantinedUntilTheWriterIsDone) {
  const auto pool = make_pool(16);
  const auto rest = keep_free(*pool, 1);
  SlotRef slot = *pool->allocate();
  const SlotId id = slot.id();
  std::byte* const bytes = slot.bytes().data();
  SlotWriter first = pool->add_writer(slot);
  SlotWriter second = pool->add_writer(slot);
  EXPECT_EQ(pool->quarantined_bytes(), 0u);

  slot.reset();
  EXPECT_EQ(pool->quarantined_bytes(), kPoolSlotBytes);
  EXPECT_EQ(pool->counts().quarantined, 1u);
  EXPECT_EQ(pool->counts().held, 15u);
  EXPECT_FALSE(pool->allocate().has_value());
  bytes[0] = std::byte{1};  // the writer's right

  first.reset();
  first.reset();
  EXPECT_FALSE(pool->allocate().has_value());
  SlotWriter moved = std::move(second);
  EXPECT_FALSE(second);  // NOLINT
  EXPECT_EQ(moved.id(), id);
  EXPECT_FALSE(pool->allocate().has_value());
  moved = SlotWriter();
  EXPECT_EQ(pool->quarantined_bytes(), 0u);
  EXPECT_TRUE(pool->allocate().has_value());
}

TEST(SlotPool, AWriterThatIsDoneFirstLeavesTheSlotToItsReaders) {
  const auto pool = make_pool(16);
  SlotRef slot = *pool->allocate();
  SlotWriter writer = pool->add_writer(slot);
  writer.reset();
  EXPECT_EQ(pool->counts().held, 1u);
  EXPECT_EQ(pool->quarantined_bytes(), 0u);
}

TEST(SlotPool, TellsEachTimeASlotBecomesFree) {
  const auto pool = make_pool(16);
  int freed = 0;
  size_t free_seen = 0;
  pool->on_free([&, raw = pool.get()] {
    ++freed;
    free_seen = raw->counts().free;  // the lock is not held
  });
  SlotRef slot = *pool->allocate();
  SlotRef copy = slot;
  slot.reset();
  EXPECT_EQ(freed, 0);
  SlotWriter writer = pool->add_writer(copy);
  copy.reset();
  EXPECT_EQ(freed, 0);
  writer.reset();
  EXPECT_EQ(freed, 1);
  EXPECT_EQ(free_seen, 16u);
  pool->allocate().reset();
  EXPECT_EQ(freed, 2);
}

TEST(SlotPool, IsCutAnewWhileNoneIsInUse) {
  const auto pool = make_pool(16);
  const size_t arena = pool->arena().bytes();
  {
    const SlotRef held = *pool->allocate();
    EXPECT_EQ(pool->recut(1000).code(), Code::kUnavailable);
    EXPECT_EQ(held.bytes().size(), kPoolSlotBytes);
  }
  ASSERT_TRUE(pool->recut(1000).ok());
  EXPECT_EQ(pool->slot_bytes(), 1024u);
  EXPECT_EQ(pool->counts().total, arena / 1024);
  EXPECT_EQ(pool->counts().free, arena / 1024);
  std::vector<SlotRef> all = keep_free(*pool, 0);
  for (const SlotRef& slot : all) std::memset(slot.bytes().data(), 1, slot.bytes().size());
  EXPECT_FALSE(pool->allocate());
  all.clear();
  for (const size_t wrong : {size_t{0}, arena + 1, SIZE_MAX, SIZE_MAX - 62})
    EXPECT_EQ(pool->recut(wrong).code(), Code::kInvalidArgument) << wrong;
  EXPECT_EQ(pool->slot_bytes(), 1024u);
}

TEST(SlotPool, ReferencesKeepThePoolAlive) {
  auto pool = make_pool(16);
  std::weak_ptr<SlotPool> alive = pool;
  SlotRef slot = *pool->allocate();
  SlotWriter writer = pool->add_writer(slot);
  pool.reset();
  std::memset(slot.bytes().data(), 1, slot.bytes().size());
  std::byte* const bytes = slot.bytes().data();
  slot.reset();
  EXPECT_FALSE(alive.expired());
  bytes[0] = std::byte{2};
  writer.reset();
  EXPECT_TRUE(alive.expired());
}

#if defined(__SANITIZE_ADDRESS__)
TEST(SlotPoolDeathTest, TouchingAFreeSlotIsReported) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto pool = make_pool(16);
  SlotRef slot = *pool->allocate();
  std::byte* const bytes = slot.bytes().data();
  slot.reset();
  EXPECT_DEATH(*static_cast<volatile std::byte*>(bytes) = std::byte{1}, "use-after-poison");
}
#endif

// Invariant 4. Every thread gets slots, lets others read and write them, and lets go of its
// references in random order; `writing` counts each slot's writers independently of the pool.
// Memory is written without synchronisation of its own, so that ThreadSanitizer sees it where a
// slot is given out while somebody still writes.
TEST(SlotPool, NeverGivesOutASlotWithAWriter) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 4000;
  const auto pool = make_pool(16);
  const auto rest = keep_free(*pool, 6);  // fewer than are wanted
  std::vector<std::atomic<int>> writing(16);
  std::vector<std::atomic<uint32_t>> last_generation(16);
  std::atomic<int> violations = 0;
  std::atomic<int> freed = 0;
  std::atomic<int> given_out = 0;

  Mutex exchange_mutex;
  std::vector<std::pair<SlotRef, SlotWriter>> exchange;  // passed from thread to thread

  pool->on_free([&] { ++freed; });
  const auto work = [&](uint32_t seed) {
    std::mt19937 random(seed);
    for (int round = 0; round < kRounds; ++round) {
      std::pair<SlotRef, SlotWriter> mine;
      if (auto slot = pool->allocate()) {
        ++given_out;
        const SlotId id = slot->id();
        if (writing[id.index] != 0) ++violations;
        if (last_generation[id.index].exchange(id.generation) >= id.generation) ++violations;
        std::memset(slot->bytes().data(), static_cast<int>(seed), slot->bytes().size());
        ++writing[id.index];
        mine.second = pool->add_writer(*slot);
        mine.first = std::move(*slot);
      }
      {
        MutexLock lock(exchange_mutex);
        if (mine.second) exchange.push_back(std::move(mine));
        if (exchange.empty() || random() % 4 == 0) continue;
        std::swap(exchange[random() % exchange.size()], exchange.back());
        mine = std::move(exchange.back());
        exchange.pop_back();
      }
      // A completion that comes before or after the last reader has gone.
      std::byte* const bytes = mine.first.bytes().data();
      const uint32_t index = mine.first.id().index;
      SlotRef second_reader = random() % 2 == 0 ? mine.first : SlotRef();
      if (random() % 2 == 0) mine.first.reset();
      std::memset(bytes, static_cast<int>(round), kPoolSlotBytes);
      for (size_t i = 0; i < kPoolSlotBytes; ++i) {
        if (bytes[i] != static_cast<std::byte>(round)) ++violations;
      }
      --writing[index];
      mine.second.reset();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i + 1);
  for (std::thread& thread : threads) thread.join();
  exchange.clear();

  EXPECT_EQ(violations, 0);
  EXPECT_GT(given_out, kRounds / 2);
  EXPECT_EQ(freed, given_out);
  EXPECT_EQ(pool->counts().free, 6u);
  EXPECT_EQ(pool->counts().quarantined, 0u);
}

}  // namespace
}  // namespace baton
