#include "transfer/tiers/nvme/nvme_tier.h"

#include <fcntl.h>

#include <functional>
#include <thread>

#include "tests/transfer/tiers/nvme/nvme_fixture.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

class NvmeTierTest : public testing::NvmeTest {};

TEST_F(NvmeTierTest, ReadsBackWhatWasStored) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  EXPECT_TRUE(held(1));
  EXPECT_FALSE(held(2));
  EXPECT_EQ(reads_back(1), "");
  EXPECT_THAT(layers_, ::testing::UnorderedElementsAre(0, 1, 2, 3));
  EXPECT_EQ(free_slots(), 32u);
}

TEST_F(NvmeTierTest, WhatAChunkIsComesBackWithIt) {
  open(config());
  const ChunkOrigin origin{.fingerprint = {1, 2, 3}, .tenant = 77};
  Chunk chunk = testing::make_chunk(*pool_->allocate(), testing::nvme_id(1), shape_, 5, origin);
  const std::vector<Checksum> checksums = chunk.checksums;
  ASSERT_TRUE(store(std::move(chunk)).ok());
  TierReadRequest wanted = request(testing::nvme_id(1), poisoned());
  const SlotId slot = wanted.into.id();
  wanted.origin = origin;
  const auto found = read(std::move(wanted));
  ASSERT_TRUE(found.ok()) << found.status().to_string();
  EXPECT_EQ(found->tokens, 5u);
  EXPECT_EQ(found->order, PayloadOrder::kHeadToken);
  EXPECT_EQ(found->checksums, checksums);
  EXPECT_EQ(found->origin, origin);
  EXPECT_EQ(found->slot.id(), slot);
}

// Aligned segments go straight between slots and the device; the others are copied, and counted.
TEST_F(NvmeTierTest, SegmentsOfAnySize) {
  const std::string copied = "baton_copied_bytes_total{why=\"nvme_unaligned\"}";
  for (const size_t bytes : {1u, 500u, 4095u, 4096u, 4097u, 5000u, 8192u, 8191u}) {
    SCOPED_TRACE(bytes);
    shape_ = {.layers = 3, .segment_bytes = bytes};
    open(config(4, kSlotBytes, std::to_string(bytes).c_str()));
    const double before = metric(copied);
    ASSERT_TRUE(store(1).ok());
    ASSERT_TRUE(store(2).ok());
    EXPECT_EQ(reads_back(1), "");
    EXPECT_EQ(reads_back(2), "");
    EXPECT_EQ(metric(copied) - before, bytes % 4096 == 0 ? 0 : 4 * 3 * bytes);
    close();
  }
}

TEST_F(NvmeTierTest, LargeLayersAndManyLayersTogether) {
  pool_ = testing::make_pool(8, 6u << 20);
  for (const auto& [layers, bytes] : {std::pair(3u, 2u << 20), std::pair(96u, 65536u),
                                      std::pair(480u, 4096u), std::pair(2u, (3u << 20) - 100)}) {
    SCOPED_TRACE(layers);
    shape_ = {.layers = layers, .segment_bytes = bytes};
    open(config(3, 6u << 20, std::to_string(layers).c_str()));
    for (uint32_t number = 0; number < 3; ++number) ASSERT_TRUE(store(number).ok());
    for (uint32_t number = 0; number < 3; ++number) EXPECT_EQ(reads_back(number), "");
    EXPECT_EQ(layers_.size(), layers);
    close();
  }
}

// Slots that do not begin where direct I/O can write to.
TEST_F(NvmeTierTest, SlotsThatAreNotAligned) {
  pool_ = testing::make_pool(8, kSlotBytes + 64);
  open(config());
  SlotRef first = *pool_->allocate();  // the next one begins at an odd address
  ASSERT_TRUE(store(1).ok());
  EXPECT_EQ(reads_back(1), "");
  EXPECT_GT(metric("baton_copied_bytes_total{why=\"nvme_unaligned\"}"), 0);
}

TEST_F(NvmeTierTest, WhatIsHeldIsNotStoredAgain) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  EXPECT_EQ(store(1, 2).code(), Code::kExists);
  EXPECT_EQ(reads_back(1, 1), "");
}

TEST_F(NvmeTierTest, WhatIsBeingStoredIsNotStoredTwice) {
  open(config());
  std::optional<Status> first;
  tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(1), shape_), soon(),
               [&](const Status& status) { first = status; });
  EXPECT_FALSE(held(1));  // not before all of it is written
  EXPECT_EQ(store(1, 2).code(), Code::kExists);
  ASSERT_TRUE(testing::run_until(io_, [&] { return first.has_value(); }));
  EXPECT_TRUE(first->ok());
  EXPECT_EQ(reads_back(1, 1), "");
}

TEST_F(NvmeTierTest, AMissIsSaidLater) {
  open(config());
  EXPECT_EQ(read(9).status().code(), Code::kNotFound);
  EXPECT_EQ(metric("baton_tier_lookups_total{result=\"miss\",tier=\"nvme\"}"), 1);
  EXPECT_EQ(free_slots(), 32u);
}

TEST_F(NvmeTierTest, FindKnowsAll) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  std::optional<std::vector<bool>> present;
  tier_->find({}, {testing::nvme_id(1), testing::nvme_id(2), testing::nvme_id(1, 1)}, soon(),
              [&](std::vector<bool> found) { present = std::move(found); });
  EXPECT_FALSE(present);
  ASSERT_TRUE(testing::run_until(io_, [&] { return present.has_value(); }));
  EXPECT_EQ(*present, (std::vector<bool>{true, false, false}));
}

TEST_F(NvmeTierTest, WhatTheReaderCannotUseIsRefusedNamingBoth) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  const auto refusal = [&](auto change) {
    TierReadRequest wanted = request(testing::nvme_id(1), poisoned());
    change(wanted);
    const auto chunk = read(std::move(wanted));
    EXPECT_EQ(chunk.status().code(), Code::kRefused);
    return chunk.status().message();
  };
  EXPECT_THAT(refusal([](auto& wanted) { wanted.layers = 3; }),
              HasSubstr("layers is 3 here and 4 in the tier"));
  EXPECT_THAT(refusal([](auto& wanted) { wanted.segment_bytes = 100; }),
              HasSubstr("is 100 here and 8192 in the tier"));
  EXPECT_THAT(refusal([](auto& wanted) { wanted.origin.fingerprint = {0xfe}; }),
              HasSubstr("fingerprint is fe000000"));
  EXPECT_EQ(reads_back(1), "");
}

TEST_F(NvmeTierTest, AChunkThatDoesNotFitIsRefusedNamingBoth) {
  open(config(4, 8192));
  const Status status = store(1);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("is 8192 here and 32768 needed"));
}

TEST_F(NvmeTierTest, TheLeastRecentlyUsedLeaves) {
  open(config(3));
  for (const uint32_t number : {1, 2, 3}) ASSERT_TRUE(store(number).ok());
  EXPECT_EQ(reads_back(1), "");               // used
  EXPECT_EQ(store(2).code(), Code::kExists);  // used
  ASSERT_TRUE(store(4).ok());
  EXPECT_FALSE(held(3));
  for (const uint32_t number : {1, 2, 4}) EXPECT_EQ(reads_back(number), "");
  EXPECT_EQ(metric("baton_tier_evictions_total{tier=\"nvme\"}"), 1);
  EXPECT_EQ(metric("baton_tier_chunks{tier=\"nvme\"}"), 3);
  EXPECT_EQ(metric("baton_tier_bytes{tier=\"nvme\"}"), 3 * 32768);
  EXPECT_EQ(metric("baton_tier_capacity_bytes{tier=\"nvme\"}"), 3 * 32768);
}

TEST_F(NvmeTierTest, WhatIsErasedIsFoundByNobodyAlsoAfterARestart) {
  open(config());
  for (const uint32_t number : {1, 2, 3, 4}) ASSERT_TRUE(store(number).ok());
  EXPECT_TRUE(erase({testing::nvme_id(2), testing::nvme_id(4), testing::nvme_id(9)}).ok());
  EXPECT_FALSE(held(2));
  EXPECT_EQ(read(2).status().code(), Code::kNotFound);
  reopen(config());
  EXPECT_EQ(chunks(), 2u);
  EXPECT_EQ(reads_back(1), "");
  EXPECT_EQ(reads_back(3), "");
  EXPECT_TRUE(store(2, 7).ok());
  EXPECT_EQ(reads_back(2, 7), "");
}

TEST_F(NvmeTierTest, ErasedAtOnceForLookUps) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  bool done = false;
  tier_->erase({}, {testing::nvme_id(1)}, [&](const Status&) { done = true; });
  EXPECT_FALSE(held(1));
  // Also stored anew at once, while the old one is being buried.
  EXPECT_TRUE(store(1, 2).ok());
  EXPECT_TRUE(testing::run_until(io_, [&] { return done; }));
  EXPECT_EQ(reads_back(1, 2), "");
  reopen(config());
  EXPECT_EQ(reads_back(1, 2), "");
}

TEST_F(NvmeTierTest, ClearTakesWhatFits) {
  open(config(16));
  const ChunkOrigin a1{{0xa}, 1}, a2{{0xa}, 2}, b1{{0xb}, 1};
  for (uint32_t number = 0; number < 12; ++number)
    ASSERT_TRUE(store(number, 1, number % 3 == 0 ? a1 : number % 3 == 1 ? a2 : b1).ok());
  const auto count = [&](const ChunkFilter& filter) { return clear(filter, true)->chunks; };
  EXPECT_EQ(count({.fingerprint = a1.fingerprint}), 8u);
  EXPECT_EQ(count({.tenant = 1}), 8u);
  EXPECT_EQ(count({.fingerprint = a1.fingerprint, .tenant = 1}), 4u);
  EXPECT_EQ(count({.tenant = 3}), 0u);
  EXPECT_EQ(chunks(), 12u);  // so far nothing was cleared

  const auto cleared = clear({.fingerprint = a1.fingerprint, .tenant = 2});
  ASSERT_TRUE(cleared.ok()) << cleared.status().to_string();
  EXPECT_EQ(cleared->chunks, 4u);
  EXPECT_EQ(cleared->bytes, 4u * 32768);
  EXPECT_EQ(chunks(), 8u);
  EXPECT_FALSE(held(1));
  reopen(config(16));
  EXPECT_EQ(chunks(), 8u);
  EXPECT_EQ(clear({})->chunks, 8u);
  reopen(config(16));
  EXPECT_EQ(chunks(), 0u);
}

TEST_F(NvmeTierTest, ClearHidesAtOnceAndTakesWhatIsBeingStored) {
  open(config(16));
  ASSERT_TRUE(store(1).ok());
  std::optional<Status> stored;
  tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(2), shape_), soon(),
               [&](const Status& status) { stored = status; });
  std::optional<Result<ChunkCount>> cleared;
  tier_->clear({}, false, [&](Result<ChunkCount> count) { cleared = std::move(count); });
  EXPECT_FALSE(held(1));
  // Begun after it: stays.
  EXPECT_TRUE(store(1, 3).ok());
  ASSERT_TRUE(testing::run_until(io_, [&] { return cleared && stored; }));
  EXPECT_EQ(stored->code(), Code::kCancelled);
  EXPECT_TRUE(cleared->ok());
  EXPECT_FALSE(held(2));
  EXPECT_EQ(reads_back(1, 3), "");
  reopen(config(16));
  EXPECT_EQ(chunks(), 1u);
  EXPECT_EQ(reads_back(1, 3), "");
}

TEST_F(NvmeTierTest, ChunksAreErasedWhileTheyAreRead) {
  for (const bool by_clear : {false, true}) {
    faults_ = std::make_shared<fakes::DiskFaults>();
    open(config(1, kSlotBytes, by_clear ? "a" : "b"));
    ASSERT_TRUE(store(1).ok());
    // The data of the chunk hangs, its header does not.
    faults_->fate = [](const nvme::Disk::Io& io) {
      return io.kind == nvme::Disk::Kind::kRead && io.bytes > 4096 ? fakes::DiskFate::hangs()
                                                                   : fakes::DiskFate::fine();
    };
    std::optional<Result<Chunk>> end;
    const auto reading = tier_->read(
        request(testing::nvme_id(1), poisoned()), [](const Chunk&, uint32_t) {},
        [&](Result<Chunk> chunk) { end = std::move(chunk); });
    ASSERT_TRUE(testing::run_until(io_, [&] { return !faults_->hanging.empty(); }));
    const Status gone = by_clear ? clear({}).status() : erase({testing::nvme_id(1)});
    EXPECT_TRUE(gone.ok()) << gone.to_string();
    EXPECT_FALSE(held(1));
    // Its slab, the only one, is not given out while it is read.
    EXPECT_EQ(store(2).code(), Code::kResourceExhausted);
    faults_->release();
    ASSERT_TRUE(testing::run_until(io_, [&] { return end.has_value(); }));
    if (end->ok()) {
      EXPECT_EQ(testing::difference(**end, testing::nvme_id(1), shape_), "");
    } else {
      EXPECT_EQ(end->status().code(), Code::kNotFound);
    }
    EXPECT_TRUE(store(2).ok());
    EXPECT_EQ(reads_back(2), "");
    close();
  }
}

TEST_F(NvmeTierTest, ACancelledReadTellsNothing) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  bool told = false;
  auto reading = tier_->read(
      request(testing::nvme_id(1), poisoned()), [&](const Chunk&, uint32_t) { told = true; },
      [&](Result<Chunk>) { told = true; });
  reading.reset();
  auto missing = tier_->read(
      request(testing::nvme_id(2), poisoned()), [](const Chunk&, uint32_t) {},
      [&](Result<Chunk>) { told = true; });
  missing.reset();
  EXPECT_TRUE(testing::run_until(io_, [&] { return free_slots() == 32; }));
  EXPECT_FALSE(told);
  EXPECT_EQ(tier_->report().reads, 0u);
}

TEST_F(NvmeTierTest, AReadMayBeCancelledFromInsideItsCallbacks) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  std::unique_ptr<Tier::Read> reading;
  int layers = 0, ends = 0;
  reading = tier_->read(
      request(testing::nvme_id(1), poisoned()),
      [&](const Chunk&, uint32_t) {
        ++layers;
        reading.reset();
      },
      [&](Result<Chunk>) { ++ends; });
  EXPECT_TRUE(testing::run_until(io_, [&] { return free_slots() == 32; }));
  EXPECT_EQ(layers, 1);
  EXPECT_EQ(ends, 0);
  reading = tier_->read(
      request(testing::nvme_id(1), poisoned()), [](const Chunk&, uint32_t) {},
      [&](Result<Chunk>) {
        ++ends;
        reading.reset();
      });
  EXPECT_TRUE(testing::run_until(io_, [&] { return free_slots() == 32; }));
  EXPECT_EQ(ends, 1);
}

TEST_F(NvmeTierTest, CallsFromInsideCallbacks) {
  open(config(2));
  bool erased = false;
  tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(1), shape_), soon(),
               [&](const Status& status) {
                 ASSERT_TRUE(status.ok());
                 EXPECT_TRUE(held(1));
                 tier_->erase({}, {testing::nvme_id(1)}, [&](const Status& gone) {
                   EXPECT_TRUE(gone.ok());
                   erased = true;
                 });
                 EXPECT_FALSE(held(1));
               });
  EXPECT_TRUE(testing::run_until(io_, [&] { return erased; }));
  reopen(config(2));
  EXPECT_EQ(chunks(), 0u);
}

TEST_F(NvmeTierTest, ChunksAreSpreadOverDevices) {
  NvmeConfig two = config(6, kSlotBytes, "a");
  two.devices.push_back(config(6, kSlotBytes, "b").devices[0]);
  open(two);
  int ended = 0;
  for (uint32_t number = 0; number < 10; ++number) {
    tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(number), shape_), soon(),
                 [&](const Status& status) {
                   EXPECT_TRUE(status.ok()) << status.to_string();
                   ++ended;
                 });
  }
  ASSERT_TRUE(testing::run_until(io_, [&] { return ended == 10; }));
  reopen(two);
  EXPECT_EQ(chunks(), 10u);
  for (uint32_t number = 0; number < 10; ++number) EXPECT_EQ(reads_back(number), "");
  // Each has its share.
  NvmeConfig one = two;
  one.devices.pop_back();
  reopen(one);
  EXPECT_EQ(chunks(), 5u);
  reopen(two);
  EXPECT_EQ(clear({})->chunks, 10u);
  EXPECT_EQ(chunks(), 0u);
}

TEST_F(NvmeTierTest, BeyondItsBoundsItRefusesAtOnce) {
  NvmeConfig bounded = config();
  bounded.max_stores = 2;
  bounded.max_reads = 2;
  open(bounded);
  ASSERT_TRUE(store(9).ok());
  int ok = 0, exhausted = 0;
  const auto end = [&](const Status& status) {
    status.ok() ? ++ok : ++exhausted;
    EXPECT_TRUE(status.ok() || status.code() == Code::kResourceExhausted);
  };
  for (uint32_t number = 0; number < 5; ++number) {
    tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(number), shape_), soon(),
                 end);
  }
  ASSERT_TRUE(testing::run_until(io_, [&] { return ok + exhausted == 5; }));
  EXPECT_EQ(ok, 2);
  EXPECT_EQ(metric("baton_tier_stores_total{end=\"resource_exhausted\",tier=\"nvme\"}"), 3);

  ok = exhausted = 0;
  std::vector<std::unique_ptr<Tier::Read>> reads;
  for (int i = 0; i < 5; ++i) {
    reads.push_back(tier_->read(
        request(testing::nvme_id(9), poisoned()), [](const Chunk&, uint32_t) {},
        [&](const Result<Chunk>& chunk) { end(chunk.status()); }));
  }
  ASSERT_TRUE(testing::run_until(io_, [&] { return ok + exhausted == 5; }));
  EXPECT_EQ(ok, 2);

  close();
  bounded.max_stores = 8;
  bounded.max_store_bytes = 2 * kSlotBytes;
  open(bounded);
  ok = exhausted = 0;
  for (uint32_t number = 20; number < 25; ++number) {
    tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(number), shape_), soon(),
                 end);
  }
  ASSERT_TRUE(testing::run_until(io_, [&] { return ok + exhausted == 5; }));
  EXPECT_EQ(ok, 2);
}

// Whoever keeps as many under way as are allowed begins the next one when one has ended.
TEST_F(NvmeTierTest, WhatHasEndedCountsNoMore) {
  NvmeConfig narrow = config();
  narrow.max_stores = narrow.max_reads = 1;
  open(narrow);
  int stored = 0;
  std::function<void(const Status&)> next = [&](const Status& status) {
    EXPECT_TRUE(status.ok()) << status.to_string();
    if (++stored < 5)
      tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(stored), shape_),
                   soon(), next);
  };
  tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(0), shape_), soon(), next);
  ASSERT_TRUE(testing::run_until(io_, [&] { return stored == 5; }));

  std::vector<std::unique_ptr<Tier::Read>> reads;
  std::function<void()> read_next;
  const auto ended = [&](Result<Chunk> chunk) {
    ASSERT_TRUE(chunk.ok()) << chunk.status().to_string();
    EXPECT_EQ(free_slots(), 31u);
    // Its slot has no writer any more: it is free when it is let go of.
    chunk->slot.reset();
    EXPECT_EQ(free_slots(), 32u);
    if (reads.size() < 5) read_next();
  };
  read_next = [&] {
    reads.push_back(tier_->read(
        request(testing::nvme_id(reads.size()), poisoned()), [](const Chunk&, uint32_t) {}, ended));
  };
  read_next();
  ASSERT_TRUE(
      testing::run_until(io_, [&] { return reads.size() == 5 && tier_->report().reads == 0; }));
}

TEST_F(NvmeTierTest, FlushesWhereAStoreMustSurviveALossOfPower) {
  faults_ = std::make_shared<fakes::DiskFaults>();
  open(config());
  ASSERT_TRUE(store(1).ok());
  EXPECT_EQ(faults_->flushes, 0u);
  ASSERT_TRUE(erase({testing::nvme_id(1)}).ok());
  EXPECT_EQ(faults_->flushes, 1u);
  NvmeConfig flushing = config();
  flushing.flush_stores = true;
  reopen(flushing);
  ASSERT_TRUE(store(2).ok());
  EXPECT_EQ(faults_->flushes, 3u);
  EXPECT_EQ(reads_back(2), "");
}

TEST_F(NvmeTierTest, AReadMovesNoMoreThanItsChunk) {
  faults_ = std::make_shared<fakes::DiskFaults>();
  open(config());
  for (const uint32_t number : {1, 2, 3, 4}) ASSERT_TRUE(store(number).ok());
  const uint64_t before = faults_->read_bytes;
  EXPECT_EQ(reads_back(3), "");
  EXPECT_EQ(faults_->read_bytes - before, 32768u + 4096u);
}

// On the device each layer begins at a whole block: whoever knows where reads it alone.
TEST_F(NvmeTierTest, EachLayerLiesByItself) {
  shape_ = {.layers = 3, .segment_bytes = 5000};
  open(config());
  for (const uint32_t number : {1, 2}) ASSERT_TRUE(store(number).ok());
  close();
  const UniqueFd fd(::open(folder_.file("device").c_str(), O_RDONLY));
  const nvme::SlabLayout layout{kSlotBytes, 8};
  for (const uint32_t number : {1, 2}) {
    for (uint32_t layer = 0; layer < 3; ++layer) {
      std::vector<std::byte> found(5000), expected(5000);
      ASSERT_EQ(pread(fd.get(), found.data(), 5000, layout.data_offset(number - 1) + layer * 8192),
                5000);
      testing::fill_segment(testing::nvme_id(number), 1, layer, expected.data(), 5000);
      EXPECT_EQ(found, expected);
    }
  }
}

// The ring belongs to the thread that submits first, not to the one that opened it.
TEST_F(NvmeTierTest, OpenedOnOneThreadAndUsedOnAnother) {
  open(config());
  std::thread([&] {
    EXPECT_TRUE(store(1).ok());
    EXPECT_EQ(reads_back(1), "");
    close();
  }).join();
}

TEST_F(NvmeTierTest, AfterCloseNothingBegins) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  // Under way: ends as it would have.
  std::optional<Status> stored;
  tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(2), shape_), soon(),
               [&](const Status& status) { stored = status; });
  bool closed = false;
  tier_->close(soon(), [&] { closed = true; });
  EXPECT_FALSE(closed);
  EXPECT_EQ(store(3).code(), Code::kUnavailable);
  EXPECT_EQ(read(1).status().code(), Code::kUnavailable);
  EXPECT_EQ(erase({testing::nvme_id(1)}).code(), Code::kUnavailable);
  EXPECT_EQ(clear({}).status().code(), Code::kUnavailable);
  ASSERT_TRUE(testing::run_until(io_, [&] { return closed; }));
  ASSERT_TRUE(stored);
  EXPECT_TRUE(stored->ok());
  tier_.reset();
  open(config());
  EXPECT_EQ(reads_back(2), "");
}

TEST_F(NvmeTierTest, OneProcessADevice) {
  open(config());
  NvmeConfig second = config();
  second.lock_patience = std::chrono::milliseconds(20);
  const auto tier = try_open(second);
  ASSERT_FALSE(tier.ok());
  EXPECT_EQ(tier.status().code(), Code::kUnavailable);
  EXPECT_THAT(tier.status().message(), HasSubstr("/device: another process has it open"));
  close();
  open(second);
}

TEST_F(NvmeTierTest, WithoutMemoryToRegister) {
  auto tier = NvmeTier::open(io_, config(), nullptr, metrics_);
  ASSERT_TRUE(tier.ok());
  tier_ = std::move(tier).value();
  ASSERT_TRUE(store(1).ok());
  EXPECT_EQ(reads_back(1), "");
}

}  // namespace
}  // namespace baton
