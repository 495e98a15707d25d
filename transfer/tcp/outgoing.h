// What leaves on one lane: segments one after the other, written piece by piece from where they
// lie. The checksum of a segment in an engine's blocks is taken piece by piece as it goes, and
// leaves with the next call. What stays as it is until the peer has acknowledged it is lent to the
// system and not copied (splice_pipe.h).
//
// Confined to one thread. Calls nobody: what is to be called is handed out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "transfer/slot_pool.h"
#include "transfer/tcp/records.h"
#include "transfer/tcp/runs.h"
#include "transfer/tcp/splice_pipe.h"

namespace baton::tcp {

// How a pass over a lane's socket ended.
enum class Pass : uint8_t {
  kIdle,      // nothing is left to do
  kBlocked,   // the socket takes, or has, no more
  kSpent,     // the budget is used up; there is more
  kNoMemory,  // a segment waits for staging memory (reading only)
};

class Outgoing {
 public:
  using Done = Channel::PublishDone;

  // Whether payloads that may be are lent from now on. At first: none.
  void lend(bool on) { lend_ = on; }

  // What the payload's memory stays as it is until; kUntilWritten: it is copied.
  enum class Stays : uint8_t { kUntilWritten, kUntilAcknowledged };
  // From a slot, kept until its bytes have been written or lent; its checksum is known.
  void add(const SegmentHeader& header, SlotRef slot, std::span<std::byte> bytes, Stays stays,
           Done done);
  // From an engine's blocks, which stay until they are acknowledged.
  void add(const SegmentHeader& header, const SegmentPlace& place, Done done);

  size_t segments() const { return queue_.size(); }
  // Payload that the socket has not yet.
  uint64_t bytes() const { return bytes_ + (pipe_ ? pipe_->bytes() : 0); }
  bool holds(const HandoffAttempt& handoff) const;

  // Writes, at most about `budget` bytes. Appends to `finished` the `done` of every segment whose
  // source this process no longer reads. Errors: kUnavailable, the connection is of no use any
  // more.
  Result<Pass> write(int socket, uint64_t budget, std::vector<Done>& finished);

  // From now on this process reads nothing of this handoff (nullptr: of any): what was not begun is
  // dropped, what was is filled up with zeros and marked as given up. Returns their `done`s.
  std::vector<Done> give_up(const HandoffAttempt* handoff);

 private:
  struct Segment {
    SegmentHeader header;
    HeaderBytes head;
    TrailerBytes tail;
    Runs runs;
    RunCursor next;                    // to be written
    RunCursor summed;                  // in the checksum
    std::optional<ChecksumPass> pass;  // none: the checksum is known
    SlotRef slot;
    Done done;
    uint64_t written = 0;  // of the whole record
    bool given_up = false;
    bool lendable = false;
    bool lent = false;  // some of it

    uint64_t payload_written() const {
      return std::min(written - std::min<uint64_t>(written, kHeaderBytes), header.bytes);
    }
    bool all_but_trailer() const { return written >= kHeaderBytes + header.bytes; }
    bool trailer_begun() const { return written > kHeaderBytes + header.bytes; }
  };
  void push(Segment segment);
  // Whether the payload of this segment that is left is to be lent.
  bool lends(const Segment& segment) const;
  // One step of a pass, which takes from `budget` what it wrote: kBlocked, or there may be more.
  // Lends the next of the first segment's payload and moves it into the socket. Where this memory
  // is not to be lent, nothing is from now on.
  Result<Pass> lend_next(int socket, uint64_t& budget, std::vector<Done>& finished);
  // Copies what comes next into the socket.
  Result<Pass> copy_next(int socket, uint64_t& budget, std::vector<Done>& finished);
  // Moves what was lent into the socket.
  Result<Pass> flush(int socket);
  struct Prepared {
    uint64_t bytes = 0;
    bool lends_next = false;  // a payload to be lent follows
  };
  // What comes next and is copied, as iovecs, with at most so many bytes of payload.
  Prepared prepare(uint64_t most);
  void wrote(uint64_t bytes, std::vector<Done>& finished);
  void advance(Segment& segment, uint64_t bytes, std::vector<Done>& finished);

  std::deque<Segment> queue_;
  uint64_t bytes_ = 0;
  std::vector<iovec> list_;
  bool lend_ = false;
  std::optional<SplicePipe> pipe_;  // since the first payload that is lent
};

}  // namespace baton::tcp
