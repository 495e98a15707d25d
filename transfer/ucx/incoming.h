// Segments on their way in: what the peer may send before it is consumed, and memory for segments
// that do not lie in one buffer of UCX's.
//
// Confined to the progress thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "transfer/ucx/records.h"

namespace baton::ucx {

// Memory for received segments, kept for the next ones: the first touch of fresh memory runs at a
// fortieth of memory speed.
class ReceiveMemory {
 public:
  // At most `keep_bytes` are kept while nobody uses them.
  explicit ReceiveMemory(size_t keep_bytes) : keep_bytes_(keep_bytes) {}

  struct Block {
    std::unique_ptr<std::byte[]> data;
    size_t bytes = 0;
  };
  // At least so many bytes, of any content; null data where the system has none.
  Block take(size_t bytes);
  void give_back(Block block);
  size_t kept_bytes() const { return kept_bytes_; }

 private:
  const size_t keep_bytes_;
  size_t kept_bytes_ = 0;
  std::vector<Block> blocks_;
};

// A block that goes back by itself.
class LentMemory {
 public:
  LentMemory(std::shared_ptr<ReceiveMemory> from, ReceiveMemory::Block block)
      : from_(std::move(from)), block_(std::move(block)) {}
  ~LentMemory() { from_->give_back(std::move(block_)); }
  LentMemory(const LentMemory&) = delete;
  LentMemory& operator=(const LentMemory&) = delete;
  std::byte* data() const { return block_.data.get(); }

 private:
  const std::shared_ptr<ReceiveMemory> from_;
  ReceiveMemory::Block block_;
};

// A segment of which not all pieces have come.
struct PartialSegment {
  SegmentHeader header;
  std::shared_ptr<LentMemory> memory;
  uint64_t claimed = 0;  // bytes of pieces that were announced
  uint64_t landed = 0;   // of those, in `memory`
  bool dropped = false;  // its handoff has ended: what comes is thrown away
  bool damaged = false;  // a piece did not come whole: the same
};

class Incoming {
 public:
  explicit Incoming(uint64_t max_unconsumed) : max_unconsumed_(max_unconsumed) {}

  // Checks a piece of `bytes` against what the peer may say. Errors: kProtocol.
  struct Place {
    bool whole = false;  // the segment is this piece
    std::shared_ptr<PartialSegment> segment;
  };
  Result<Place> take(const Piece& piece, size_t bytes);
  // All of its bytes are there, or will not be.
  void finished(uint64_t sequence) { partial_.erase(sequence); }
  // The owner let go of a segment of so many bytes.
  void consumed(uint64_t bytes);
  void drop(const HandoffAttempt& handoff);

  // Charged bytes that were consumed since the channel opened.
  uint64_t consumed_total() const { return consumed_total_; }
  uint64_t max_unconsumed() const { return max_unconsumed_; }

 private:
  const uint64_t max_unconsumed_;
  uint64_t charged_ = 0;  // not consumed
  uint64_t consumed_total_ = 0;
  std::unordered_map<uint64_t, std::shared_ptr<PartialSegment>> partial_;  // by sequence
};

}  // namespace baton::ucx
