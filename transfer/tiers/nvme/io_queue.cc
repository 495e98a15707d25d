#include "transfer/tiers/nvme/io_queue.h"

#include <cerrno>
#include <utility>

#include "transfer/tiers/nvme/slab_format.h"

namespace baton::nvme {
namespace {

constexpr uint32_t kMaxReadsInARow = 3;
// Of one that moves nothing and asks to be tried again.
constexpr int kMaxTries = 8;

size_t lane_index(Lane lane) { return static_cast<size_t>(lane); }

}  // namespace

void IoQueue::push(Lane lane, IoTask task) {
  lanes_[lane_index(lane)].push_back(std::move(task));
  pump();
}

size_t IoQueue::drop(const void* owner) {
  // Destroyed at the end: that may end what owns them.
  std::deque<IoTask> gone;
  for (std::deque<IoTask>& lane : lanes_) {
    std::deque<IoTask> kept;
    for (IoTask& task : lane) (task.owner == owner ? gone : kept).push_back(std::move(task));
    lane = std::move(kept);
  }
  return gone.size();
}

std::optional<IoTask> IoQueue::next() {
  std::deque<IoTask>& reads = lanes_[lane_index(Lane::kRead)];
  std::deque<IoTask>& writes = lanes_[lane_index(Lane::kWrite)];
  const bool write = reads.empty() || (reads_in_a_row_ >= kMaxReadsInARow && !writes.empty());
  std::deque<IoTask>& lane = write ? writes : reads;
  if (lane.empty()) return std::nullopt;
  reads_in_a_row_ = write ? 0 : reads_in_a_row_ + 1;
  IoTask task = std::move(lane.front());
  lane.pop_front();
  return task;
}

void IoQueue::pump() {
  bool submitted = false;
  while (under_way_ < disk_.depth()) {
    std::optional<IoTask> task = next();
    if (!task) break;
    ++under_way_;
    submit(task->begin(), std::move(task->end), 0);
    submitted = true;
  }
  if (submitted) disk_.start();
}

void IoQueue::submit(Disk::Io io, std::function<void(int error)> end, int tries) {
  disk_.submit(io, [this, io, end = std::move(end), tries](int32_t result) mutable {
    const bool again = result == -EAGAIN || result == -EINTR;
    const auto moved = result < 0 ? 0u : static_cast<uint32_t>(result);
    if (again && tries < kMaxTries) {
      submit(io, std::move(end), tries + 1);
      return disk_.start();
    }
    if (result >= 0 && moved < io.bytes) {
      // What was moved of a block that is not whole is moved again.
      const uint32_t whole = moved / kBlockBytes * kBlockBytes;
      if (whole > 0) {
        io.offset += whole;
        io.data += whole;
        io.bytes -= whole;
        submit(io, std::move(end), 0);
        return disk_.start();
      }
      result = -EIO;
    }
    --under_way_;
    end(result < 0 ? -result : 0);
    pump();
  });
}

}  // namespace baton::nvme
