// What waits for a disk: as many are under way as the disk takes, the rest in two lanes.
//
// A request waits for a read, nobody for a write: reads go first, but of four turns one is a
// write's where one waits. What was moved in part only is continued here.
//
// Thread safety: confined to the progress thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "transfer/tiers/nvme/disk.h"

namespace baton::nvme {

enum class Lane : uint8_t { kRead, kWrite };

struct IoTask {
  const void* owner = nullptr;
  // Its turn has come: where to and from. Takes memory only then, so that what waits has none.
  // Must not call the queue.
  std::function<Disk::Io()> begin;
  // All of it was moved (0), or errno. May call the queue.
  std::function<void(int error)> end;
};

class IoQueue {
 public:
  explicit IoQueue(Disk& disk) : disk_(disk) {}
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;

  void push(Lane lane, IoTask task);
  // Forgets what this owner has waiting; returns how much that was. What is under way ends.
  size_t drop(const void* owner);

  size_t waiting() const { return lanes_[0].size() + lanes_[1].size(); }
  uint32_t under_way() const { return under_way_; }

 private:
  void pump();
  std::optional<IoTask> next();
  void submit(Disk::Io io, std::function<void(int error)> end, int tries);

  Disk& disk_;
  std::array<std::deque<IoTask>, 2> lanes_;
  uint32_t under_way_ = 0;
  uint32_t reads_in_a_row_ = 0;
};

}  // namespace baton::nvme
