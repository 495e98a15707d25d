// A failing, full, slow or hanging device: rejections, never a wrong byte, never a slot that is
// somebody else's while the device may touch it.
#include <fcntl.h>

#include <cerrno>

#include "tests/transfer/tiers/nvme/nvme_fixture.h"

namespace baton {
namespace {

using fakes::DiskFate;
using fakes::DiskFaults;
using nvme::Disk;
using ::testing::HasSubstr;

class NvmeFaults : public testing::NvmeTest {
 protected:
  NvmeFaults() { faults_ = std::make_shared<DiskFaults>(); }

  void fail(Disk::Kind kind, int error) {
    faults_->fate = [kind, error](const Disk::Io& io) {
      return io.kind == kind ? DiskFate::fails(error) : DiskFate::fine();
    };
  }
  NvmeConfig quick_breaker() const {
    NvmeConfig config = this->config();
    config.breaker = {.failures = 3,
                      .pause = std::chrono::milliseconds(30),
                      .max_pause = std::chrono::milliseconds(60)};
    return config;
  }
  bool open_breaker(const char* of) const {
    return metric("baton_tier_breaker_open{device=\"" + folder_.file("device") + "\",of=\"" + of +
                  "\",tier=\"nvme\"}") == 1;
  }
  double errors(const char* kind) const {
    return metric(std::string("baton_tier_errors_total{kind=\"") + kind + "\",tier=\"nvme\"}");
  }
  // Until a store or read is tried again; how it ended.
  template <typename Try>
  Status after_the_pause(const Try& attempt) {
    Status status(Code::kUnavailable, "");
    const TimePoint deadline = soon();
    while (status.code() == Code::kUnavailable && now() < deadline) {
      testing::run_for(io_, std::chrono::milliseconds(2));
      status = attempt();
    }
    return status;
  }
};

TEST_F(NvmeFaults, AFullDiskIsARejectionAndTheBreakerOpens) {
  open(quick_breaker());
  ASSERT_TRUE(store(1).ok());
  fail(Disk::Kind::kWrite, ENOSPC);
  for (uint32_t number = 2; number < 5; ++number) {
    const Status status = store(number);
    EXPECT_EQ(status.code(), Code::kInternal);
    EXPECT_EQ(status.native(), ENOSPC);
    EXPECT_THAT(status.message(), HasSubstr("/device: No space left on device"));
    EXPECT_FALSE(held(number));
  }
  EXPECT_EQ(errors("no_space"), 3);
  EXPECT_TRUE(open_breaker("store"));
  EXPECT_FALSE(tier_->report().available);
  EXPECT_THAT(tier_->report().trouble, HasSubstr("No space left"));
  const size_t writes = faults_->writes;
  EXPECT_EQ(store(5).code(), Code::kUnavailable);
  EXPECT_EQ(faults_->writes, writes);  // without trying
  // Reads go on: they have a breaker of their own.
  EXPECT_EQ(reads_back(1), "");
  EXPECT_EQ(free_slots(), 32u);

  // One trial a pause; while it fails the rest is refused.
  EXPECT_EQ(after_the_pause([&] { return store(6); }).code(), Code::kInternal);
  EXPECT_EQ(store(7).code(), Code::kUnavailable);
  faults_->fate = nullptr;
  EXPECT_TRUE(after_the_pause([&] { return store(8); }).ok());
  EXPECT_FALSE(open_breaker("store"));
  EXPECT_TRUE(tier_->report().available);
  EXPECT_EQ(tier_->report().trouble, "");
  EXPECT_TRUE(store(9).ok());
  for (const uint32_t number : {1, 8, 9}) EXPECT_EQ(reads_back(number), "");
  faults_ = std::make_shared<DiskFaults>();
  reopen(quick_breaker());
  EXPECT_EQ(chunks(), 3u);
}

TEST_F(NvmeFaults, AnUnreadableDiskIsAMissAndTheBreakerOpens) {
  open(quick_breaker());
  ASSERT_TRUE(store(1).ok());
  fail(Disk::Kind::kRead, EIO);
  for (int i = 0; i < 3; ++i) {
    const auto chunk = read(1);
    EXPECT_EQ(chunk.status().code(), Code::kInternal);
    EXPECT_EQ(chunk.status().native(), EIO);
    EXPECT_TRUE(layers_.empty());
  }
  EXPECT_EQ(errors("io"), 3);  // though of each read the header and the layers failed
  EXPECT_TRUE(open_breaker("read"));
  EXPECT_FALSE(held(1));  // not for whoever asks now
  EXPECT_EQ(read(1).status().code(), Code::kUnavailable);
  EXPECT_TRUE(store(2).ok());
  EXPECT_EQ(free_slots(), 32u);
  faults_->fate = nullptr;
  EXPECT_TRUE(after_the_pause([&] { return read(1).status(); }).ok());
  EXPECT_EQ(reads_back(1), "");
  EXPECT_EQ(reads_back(2), "");
}

TEST_F(NvmeFaults, AnErrorInEachStepOfAStoreLeavesNothing) {
  for (const bool flush : {false, true}) {
    for (int failing = 0; failing < (flush ? 5 : 3); ++failing) {
      SCOPED_TRACE(failing);
      NvmeConfig one =
          config(1, kSlotBytes, (std::to_string(failing) + (flush ? "f" : "")).c_str());
      one.flush_stores = flush;
      one.breaker.failures = 100;
      open(one);
      ASSERT_TRUE(store(1).ok());
      // Evicts: tombstone, data, [flush,] header [, flush].
      int step = 0;
      faults_->fate = [&](const Disk::Io&) {
        return step++ == failing ? DiskFate::fails(EIO) : DiskFate::fine();
      };
      EXPECT_EQ(store(2).code(), Code::kInternal);
      EXPECT_GT(step, failing);
      EXPECT_FALSE(held(2));
      faults_->fate = nullptr;
      reopen(one);
      EXPECT_FALSE(held(2));
      // The old one is still there only where its tombstone was what failed.
      EXPECT_EQ(held(1), failing == 0);
      EXPECT_TRUE(failing != 0 || reads_back(1).empty());
      EXPECT_TRUE(store(3).ok());
      EXPECT_EQ(reads_back(3), "");
      close();
    }
  }
}

TEST_F(NvmeFaults, AnEraseThatIsNotOnTheDeviceSaysSo) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  ASSERT_TRUE(store(2).ok());
  fail(Disk::Kind::kWrite, EIO);
  EXPECT_EQ(erase({testing::nvme_id(1)}).native(), EIO);
  EXPECT_FALSE(held(1));
  EXPECT_EQ(clear({}).status().native(), EIO);
  EXPECT_FALSE(held(2));
  fail(Disk::Kind::kFlush, EIO);
  ASSERT_TRUE(store(3).ok());
  EXPECT_EQ(erase({testing::nvme_id(3)}).native(), EIO);
  EXPECT_FALSE(held(3));
  // The slabs are not used before their headers are tombstones.
  faults_->fate = nullptr;
  for (uint32_t number = 10; number < 18; ++number) ASSERT_TRUE(store(number).ok());
  reopen(config());
  EXPECT_EQ(chunks(), 8u);
  for (uint32_t number = 10; number < 18; ++number) EXPECT_EQ(reads_back(number), "");
}

// A chunk that left to make room can still be found by a restart until its tombstone is written:
// erasing it waits for that too.
TEST_F(NvmeFaults, WhatWasEvictedAMomentAgoIsErasedAsWell) {
  for (const bool by_clear : {false, true}) {
    const NvmeConfig one = config(1, kSlotBytes, by_clear ? "a" : "b");
    open(one);
    ASSERT_TRUE(store(1).ok());
    faults_->fate = [](const Disk::Io& io) {
      return io.kind == Disk::Kind::kWrite ? DiskFate::hangs() : DiskFate::fine();
    };
    std::optional<Status> stored, erased;
    tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(2), shape_), soon(),
                 [&](const Status& status) { stored = status; });
    EXPECT_FALSE(held(1));
    if (by_clear) {
      tier_->clear({}, false, [&](const Result<ChunkCount>& count) { erased = count.status(); });
    } else {
      tier_->erase({}, {testing::nvme_id(1)}, [&](const Status& status) { erased = status; });
    }
    testing::run_for(io_, std::chrono::milliseconds(20));
    EXPECT_FALSE(erased);
    faults_->release();
    ASSERT_TRUE(testing::run_until(io_, [&] { return erased && stored; }));
    EXPECT_TRUE(erased->ok()) << erased->to_string();
    EXPECT_EQ(stored->code(), by_clear ? Code::kCancelled : Code::kOk);
    close();
  }
}

// Its tombstone was refused by the device: the chunk is a ghost, until it is erased again.
TEST_F(NvmeFaults, AGhostIsErasedWhenTheDeviceWorksAgain) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  ASSERT_TRUE(store(2).ok());
  fail(Disk::Kind::kWrite, EIO);
  EXPECT_EQ(erase({testing::nvme_id(1), testing::nvme_id(2)}).native(), EIO);
  faults_->fate = nullptr;
  EXPECT_TRUE(erase({testing::nvme_id(1)}).ok());
  reopen(config());
  EXPECT_FALSE(held(1));
  EXPECT_TRUE(held(2));  // as the error said
}

TEST_F(NvmeFaults, ShortTransfersAreContinued) {
  open(config());
  faults_->fate = [](const Disk::Io&) { return DiskFate{.at_most = 4096}; };
  ASSERT_TRUE(store(1).ok());
  EXPECT_EQ(reads_back(1), "");
  // Of a part of a block no use is made.
  faults_->fate = [](const Disk::Io& io) {
    return io.bytes > 8192 ? DiskFate{.at_most = 8192 + 512} : DiskFate::fine();
  };
  ASSERT_TRUE(store(2).ok());
  EXPECT_EQ(reads_back(2), "");
  reopen(config());
  EXPECT_EQ(reads_back(1), "");
  EXPECT_EQ(reads_back(2), "");
}

TEST_F(NvmeFaults, WhatHangsIsTimedOutAndItsSlotStaysUntilItIsDone) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  faults_->fate = [](const Disk::Io&) { return DiskFate::hangs(); };
  SlotRef slot = poisoned();
  const size_t index = slot.id().index;
  TierReadRequest wanted = request(testing::nvme_id(1), std::move(slot));
  wanted.deadline = now() + std::chrono::milliseconds(20);
  EXPECT_EQ(read(std::move(wanted)).status().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(errors("timeout"), 1);
  // Nobody holds the slot, and nobody gets it: the device may still write there.
  EXPECT_EQ(pool_->counts().quarantined, 1u);
  EXPECT_EQ(tier_->report().reads, 1u);
  std::vector<SlotRef> all;
  while (auto other = pool_->allocate()) {
    EXPECT_NE(other->id().index, index);
    std::fill(other->bytes().begin(), other->bytes().end(), testing::kPoison);
    all.push_back(*std::move(other));
  }
  EXPECT_EQ(all.size(), 31u);
  // It lands now, in a slot that is nobody's.
  faults_->release();
  ASSERT_TRUE(testing::run_until(io_, [&] { return pool_->counts().quarantined == 0; }));
  for (const SlotRef& other : all) {
    EXPECT_TRUE(std::all_of(other.bytes().begin(), other.bytes().end(),
                            [](std::byte each) { return each == testing::kPoison; }));
  }
  all.clear();
  EXPECT_EQ(tier_->report().reads, 0u);
  EXPECT_EQ(reads_back(1), "");
}

TEST_F(NvmeFaults, AStoreThatTimesOutKeepsItsSlotAndItsSlabUntilItIsDone) {
  open(config(1));
  faults_->fate = [](const Disk::Io& io) {
    return io.kind == Disk::Kind::kWrite ? DiskFate::hangs() : DiskFate::fine();
  };
  Chunk chunk = testing::make_chunk(*pool_->allocate(), testing::nvme_id(1), shape_);
  EXPECT_EQ(store(std::move(chunk), now() + std::chrono::milliseconds(20)).code(),
            Code::kDeadlineExceeded);
  EXPECT_EQ(free_slots(), 31u);
  EXPECT_EQ(tier_->report().stores, 1u);
  // The slab may still be written to: there is no other.
  EXPECT_EQ(store(2).code(), Code::kResourceExhausted);
  faults_->release();
  ASSERT_TRUE(testing::run_until(io_, [&] { return free_slots() == 32; }));
  EXPECT_FALSE(held(1));
  EXPECT_TRUE(store(2).ok());
  EXPECT_EQ(reads_back(2), "");
  reopen(config(1));
  EXPECT_EQ(chunks(), 1u);
  EXPECT_EQ(reads_back(2), "");
}

// The header was on its way when the time was over: it lands, and a tombstone after it.
TEST_F(NvmeFaults, AStoreWhoseHeaderLandsTooLateIsNotFoundLater) {
  for (const bool flush : {false, true}) {
    NvmeConfig one = config(1, kSlotBytes, flush ? "f" : "n");
    one.flush_stores = flush;
    open(one);
    bool data = false;
    faults_->fate = [&](const Disk::Io& io) {
      if (io.kind != Disk::Kind::kWrite) return DiskFate::fine();
      if (io.bytes > 4096) data = true;
      return data && io.bytes == 4096 ? DiskFate::hangs() : DiskFate::fine();
    };
    Chunk chunk = testing::make_chunk(*pool_->allocate(), testing::nvme_id(1), shape_);
    EXPECT_EQ(store(std::move(chunk), now() + std::chrono::milliseconds(50)).code(),
              Code::kDeadlineExceeded);
    ASSERT_EQ(faults_->hanging.size(), 1u);
    // Erasing it waits for that.
    std::optional<Status> erased;
    tier_->erase({}, {testing::nvme_id(1)}, [&](const Status& status) { erased = status; });
    testing::run_for(io_, std::chrono::milliseconds(20));
    EXPECT_FALSE(erased);
    faults_->release();
    ASSERT_TRUE(testing::run_until(io_, [&] { return erased.has_value(); }));
    EXPECT_TRUE(erased->ok());
    reopen(one);
    EXPECT_EQ(chunks(), 0u);
    close();
  }
}

TEST_F(NvmeFaults, WhatOnlyWaitsEndsWithItsDeadlineAndHoldsNothing) {
  NvmeConfig narrow = config();
  narrow.depth = 1;
  narrow.breaker.failures = 2;
  open(narrow);
  ASSERT_TRUE(store(1).ok());
  faults_->fate = [](const Disk::Io&) { return DiskFate::hangs(); };
  const auto deadline = now() + std::chrono::milliseconds(20);
  std::vector<std::unique_ptr<Tier::Read>> reads;
  int late = 0;
  for (int i = 0; i < 4; ++i) {
    TierReadRequest wanted = request(testing::nvme_id(1), poisoned());
    wanted.deadline = deadline;
    reads.push_back(tier_->read(
        std::move(wanted), [](const Chunk&, uint32_t) {},
        [&](Result<Chunk> chunk) {
          EXPECT_EQ(chunk.status().code(), Code::kDeadlineExceeded);
          ++late;
        }));
  }
  ASSERT_TRUE(testing::run_until(io_, [&] { return late == 4; }));
  // Only the first had something at the device: it alone counts against it.
  EXPECT_EQ(pool_->counts().quarantined, 1u);
  EXPECT_EQ(errors("timeout"), 1);
  EXPECT_FALSE(open_breaker("read"));
}

TEST_F(NvmeFaults, AnEraseHasADeadlineToo) {
  NvmeConfig quick = config();
  quick.erase_deadline = std::chrono::milliseconds(20);
  open(quick);
  ASSERT_TRUE(store(1).ok());
  ASSERT_TRUE(store(2).ok());
  faults_->fate = [](const Disk::Io&) { return DiskFate::hangs(); };
  EXPECT_EQ(erase({testing::nvme_id(1)}).code(), Code::kDeadlineExceeded);
  EXPECT_EQ(clear({}).status().code(), Code::kDeadlineExceeded);
  EXPECT_FALSE(held(1));
  EXPECT_FALSE(held(2));
}

TEST_F(NvmeFaults, CloseEndsAllAndWaitsForTheDevice) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  ASSERT_TRUE(store(2).ok());
  faults_->fate = [](const Disk::Io&) { return DiskFate::hangs(); };
  std::optional<Status> stored, erased, cleared;
  std::optional<Result<Chunk>> chunk;
  tier_->store(testing::make_chunk(*pool_->allocate(), testing::nvme_id(3), shape_), soon(),
               [&](const Status& status) { stored = status; });
  const auto reading = tier_->read(
      request(testing::nvme_id(1), poisoned()), [](const Chunk&, uint32_t) {},
      [&](Result<Chunk> end) { chunk = std::move(end); });
  tier_->erase({}, {testing::nvme_id(2)}, [&](const Status& status) { erased = status; });
  tier_->clear({}, false, [&](const Result<ChunkCount>& count) { cleared = count.status(); });
  bool closed = false;
  tier_->close(now() + std::chrono::milliseconds(30), [&] { closed = true; });
  ASSERT_TRUE(testing::run_until(io_, [&] { return stored && chunk && erased && cleared; }));
  EXPECT_EQ(stored->code(), Code::kUnavailable);
  EXPECT_EQ(chunk->status().code(), Code::kUnavailable);
  EXPECT_EQ(erased->code(), Code::kUnavailable);
  EXPECT_EQ(cleared->code(), Code::kUnavailable);
  testing::run_for(io_, std::chrono::milliseconds(20));
  EXPECT_FALSE(closed);  // slots may still be touched
  EXPECT_EQ(free_slots(), 30u);
  faults_->release();
  ASSERT_TRUE(testing::run_until(io_, [&] { return closed; }));
  EXPECT_EQ(free_slots(), 32u);
  tier_.reset();
}

TEST_F(NvmeFaults, ADeviceThatFailsLeavesTheOtherOne) {
  NvmeConfig two = quick_breaker();
  two.devices.push_back(config(8, kSlotBytes, "other").devices[0]);
  const std::string broken = two.devices[0].path;
  const auto faults = faults_;
  const nvme::Seams seams{.disk = [&](boost::asio::io_context& io, const std::string& path,
                                      std::unique_ptr<Disk> disk) -> std::unique_ptr<Disk> {
    if (path != broken) return disk;
    return std::make_unique<fakes::FaultyDisk>(io, faults, std::move(disk));
  }};
  auto tier = NvmeTier::open(io_, two, pool_, metrics_, seams);
  ASSERT_TRUE(tier.ok()) << tier.status().to_string();
  tier_ = std::move(tier).value();
  fail(Disk::Kind::kWrite, EIO);
  int ok = 0;
  for (uint32_t number = 0; number < 8; ++number) ok += store(number).ok() ? 1 : 0;
  EXPECT_GE(ok, 4);  // the breaker's failures, and a trial at most
  EXPECT_TRUE(open_breaker("store"));
  EXPECT_TRUE(tier_->report().available);
  for (uint32_t number = 0; number < 8; ++number) {
    EXPECT_EQ(held(number) ? reads_back(number) : "", "");
  }
}

TEST_F(NvmeFaults, HeadersThatDoNotReadAreAnErrorOfTheStart) {
  open(config());
  close();
  fail(Disk::Kind::kRead, EIO);
  const auto tier = try_open(config());
  ASSERT_FALSE(tier.ok());
  EXPECT_EQ(tier.status().code(), Code::kInternal);
  EXPECT_THAT(tier.status().message(), HasSubstr("/device: read headers at 4096"));
}

// What the device hands out is damaged in one bit: dropped, counted, and not served again.
TEST_F(NvmeFaults, WhatDoesNotVerifyIsDropped) {
  open(config());
  ASSERT_TRUE(store(1).ok());
  ASSERT_TRUE(store(2).ok());
  close();
  const std::string path = folder_.file("device");
  const UniqueFd fd(::open(path.c_str(), O_RDWR));
  const uint64_t offset = nvme::SlabLayout{kSlotBytes, 8}.data_offset(0) + 3 * 8192 + 5000;
  char byte;
  ASSERT_EQ(pread(fd.get(), &byte, 1, offset), 1);
  byte ^= 4;
  ASSERT_EQ(pwrite(fd.get(), &byte, 1, offset), 1);
  open(config());
  const auto chunk = read(1);
  EXPECT_EQ(chunk.status().code(), Code::kChecksum);
  EXPECT_THAT(chunk.status().message(), HasSubstr("layer 3 does not verify"));
  EXPECT_THAT(layers_, ::testing::Not(::testing::Contains(3u)));
  EXPECT_EQ(metric("baton_checksum_failures_total{where=\"nvme\"}"), 1);
  EXPECT_FALSE(held(1));
  EXPECT_EQ(read(1).status().code(), Code::kNotFound);
  EXPECT_EQ(reads_back(2), "");
  reopen(config());
  EXPECT_EQ(chunks(), 1u);
}

}  // namespace
}  // namespace baton
