// Stores, reads, erases and evicts chunks as fast as it can, until it is killed.
//
//   transfer_nvme_child FILE BYTES BOARD CHUNKS SEED
//
// Of each chunk one operation is under way at a time; what it was told is on the board. It ends
// when its parent does.
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <map>
#include <random>
#include <vector>

#include "tests/transfer/tiers/nvme/kill_board.h"
#include "tests/transfer/tiers/nvme/nvme_chunks.h"
#include "transfer/base/log.h"
#include "transfer/base/metrics.h"
#include "transfer/tiers/nvme/nvme_tier.h"

namespace baton::testing {
namespace {

constexpr uint32_t kUnderWay = 12;
constexpr ChunkShape kShape{KillSetup::kLayers, KillSetup::kSegmentBytes};

class KillWork {
 public:
  KillWork(Tier& tier, std::shared_ptr<SlotPool> pool, KillBoard& board, uint32_t chunks,
           uint64_t seed)
      : tier_(tier), pool_(std::move(pool)), board_(board), busy_(chunks), random_(seed) {}

  void begin_another() {
    const auto number = static_cast<uint32_t>(random_() % busy_.size());
    if (busy_[number]) return begin_another();
    busy_[number] = true;
    const bool held = tier_.presence(nvme_id(number)) == Tier::Presence::kHeld;
    if (!held) return store(number);
    random_() % 3 == 0 ? read(number) : erase(number);
  }

 private:
  void store(uint32_t number) {
    KillRecord& record = board_.chunks[number];
    const uint32_t version = std::max(record.known.load(), record.begun.load()) + 1;
    record.begun = version;
    tier_.store(make_chunk(*pool_->allocate(), nvme_id(number), kShape, version),
                now() + std::chrono::seconds(30), [this, number, version](const Status& status) {
                  if (!status.ok()) std::abort();
                  board_.chunks[number].known = version;
                  ++board_.stores;
                  ended(number);
                });
  }
  void erase(uint32_t number) {
    board_.chunks[number].begun = 0;
    tier_.erase({}, {nvme_id(number)}, [this, number](const Status& status) {
      if (!status.ok()) std::abort();
      board_.chunks[number].known = 0;
      ++board_.erases;
      ended(number);
    });
  }
  void read(uint32_t number) {
    reads_[number] = tier_.read(
        {.id = nvme_id(number),
         .into = poisoned_slot(*pool_),
         .layers = kShape.layers,
         .segment_bytes = kShape.segment_bytes,
         .deadline = now() + std::chrono::seconds(30)},
        [](const Chunk&, uint32_t) {},
        [this, number](Result<Chunk> chunk) {
          // Evicted in the meantime is no fault.
          if (chunk.ok() ? !difference(*chunk, nvme_id(number), kShape).empty()
                         : chunk.status().code() != Code::kNotFound)
            ++board_.wrong;
          ++board_.reads;
          ended(number);
        });
  }
  void ended(uint32_t number) {
    busy_[number] = false;
    begin_another();
  }

  Tier& tier_;
  const std::shared_ptr<SlotPool> pool_;
  KillBoard& board_;
  std::vector<bool> busy_;
  std::map<uint32_t, std::unique_ptr<Tier::Read>> reads_;
  std::mt19937_64 random_;
};

int work(char** argv) {
  log::set_level(log::Level::kError);
  KillBoard* const board = KillBoard::map(argv[3], false);
  if (board == nullptr) return 2;
  boost::asio::io_context io;
  Metrics metrics;
  auto pool = make_pool(kUnderWay + 4, KillSetup::kSlabBytes);
  NvmeConfig config{.devices = {{argv[1], std::strtoull(argv[2], nullptr, 10)}},
                    .slab_bytes = KillSetup::kSlabBytes,
                    .depth = 8};
  auto tier = NvmeTier::open(io, config, pool, metrics);
  if (!tier.ok()) return 3;
  KillWork work(**tier, pool, *board, static_cast<uint32_t>(std::atoi(argv[4])),
                std::strtoull(argv[5], nullptr, 10));
  for (uint32_t i = 0; i < kUnderWay; ++i) work.begin_another();
  board->ready = 1;
  io.run();
  return 4;
}

}  // namespace
}  // namespace baton::testing

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return argc == 6 ? baton::testing::work(argv) : 2;
}
