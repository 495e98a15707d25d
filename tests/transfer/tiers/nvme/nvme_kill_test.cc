// `kill -9` at any moment: what is found afterwards is whole and right, what was told to be stored
// is there, and what was told to be erased is not.
#include <poll.h>
#include <sys/mman.h>

#include <cstdlib>
#include <functional>
#include <random>

#include "tests/transfer/child.h"
#include "tests/transfer/tiers/nvme/kill_board.h"
#include "tests/transfer/tiers/nvme/nvme_fixture.h"

namespace baton {
namespace {

using testing::KillBoard;
using testing::KillRecord;
using testing::KillSetup;

class NvmeKill : public testing::NvmeTest {
 protected:
  NvmeKill() {
    pool_ = testing::make_pool(4, KillSetup::kSlabBytes);
    shape_ = {KillSetup::kLayers, KillSetup::kSegmentBytes};
  }
  // How often, in all.
  static int kills() {
    const char* const asked = std::getenv("BATON_TEST_KILLS");
    if (asked != nullptr) return std::atoi(asked);
#ifdef BATON_SANITIZED
    return 20;
#else
    return 100;
#endif
  }

  static uint64_t done(const KillBoard& board) { return board.stores + board.erases + board.reads; }
  // Waits for what the child does; false where it does not within kPatience.
  static bool wait_for(const std::function<bool()>& condition) {
    const TimePoint patience = now() + testing::kPatience;
    while (!condition()) {
      if (now() >= patience) return false;
      wait_a_moment(std::chrono::microseconds(100));
    }
    return true;
  }
  static void wait_a_moment(Duration duration) {
    const timespec time{0, static_cast<long>(duration.count())};
    ::ppoll(nullptr, 0, &time, nullptr);
  }

  // Starts a child, kills it a moment after it has done so many operations.
  void kill_one(const NvmeConfig& config, const KillBoard& board, uint32_t chunks, uint64_t seed,
                uint64_t operations, Duration moment) {
    testing::Child child({BATON_TEST_CHILD, config.devices[0].path,
                          std::to_string(config.devices[0].bytes), folder_.file("board"),
                          std::to_string(chunks), std::to_string(seed)});
    const uint64_t until = done(board) + operations;
    ASSERT_TRUE(wait_for([&] { return board.ready == 1 && done(board) >= until; }))
        << "the child does not work";
    wait_a_moment(moment);
    child.signal(SIGKILL);
  }

  // Looks at all that is there after a kill, and puts it on the board.
  void look(KillBoard& board, uint32_t chunks, bool evicts) {
    uint64_t there = 0;
    for (uint32_t number = 0; number < chunks; ++number) {
      SCOPED_TRACE(number);
      KillRecord& record = board.chunks[number];
      uint32_t found = 0;
      if (held(number)) {
        const auto chunk = read(number);
        ASSERT_TRUE(chunk.ok()) << chunk.status().to_string();
        ASSERT_EQ(testing::difference(*chunk, testing::nvme_id(number), shape_), "");
        found = chunk->tokens;
        ++there;
      }
      ASSERT_TRUE(found == record.known || found == record.begun || (evicts && found == 0))
          << "found version " << found << ", known is " << record.known << ", begun "
          << record.begun;
      record.known = record.begun = found;
    }
    ASSERT_EQ(chunks_held(), there);
  }
  uint64_t chunks_held() const { return tier_->report().held.chunks; }

  void kill_often(uint32_t chunks, bool evicts, int times) {
    const uint64_t seed = std::random_device()();  // the moments differ anyway
    KillBoard* const board = KillBoard::map(folder_.file("board"), true);
    ASSERT_NE(board, nullptr);
    const NvmeConfig config = this->config(KillSetup::kSlabs, KillSetup::kSlabBytes);
    std::mt19937_64 random(seed);
    for (int i = 0; i < times; ++i) {
      SCOPED_TRACE("kill " + std::to_string(i) + " of seed " + std::to_string(seed));
      board->ready = 0;
      const auto moment = std::chrono::microseconds(random() % 3000);
      ASSERT_NO_FATAL_FAILURE(kill_one(config, *board, chunks, random(), random() % 100, moment));
      ASSERT_NO_FATAL_FAILURE(open(config));
      ASSERT_NO_FATAL_FAILURE(look(*board, chunks, evicts));
      ASSERT_EQ(metric("baton_checksum_failures_total{where=\"nvme\"}"), 0);
      ASSERT_EQ(board->wrong, 0u);
      close();
    }
    std::printf("%d kills, %llu stores, %llu erases, %llu reads were told to be done\n", times,
                static_cast<unsigned long long>(board->stores),
                static_cast<unsigned long long>(board->erases),
                static_cast<unsigned long long>(board->reads));
    EXPECT_GT(board->stores, static_cast<uint64_t>(times));
    EXPECT_GT(board->erases, static_cast<uint64_t>(times) / 2);
    munmap(board, sizeof *board);
  }
};

// There is room for all: nothing that was stored may be missing.
TEST_F(NvmeKill, NothingIsLostAndNothingComesBack) {
  kill_often(KillSetup::kSlabs - 16, false, kills() / 2);
}

// There is not: slabs are written again and again.
TEST_F(NvmeKill, WhereChunksEvictEachOther) {
  kill_often(4 * KillSetup::kSlabs, true, kills() - kills() / 2);
}

}  // namespace
}  // namespace baton
