// What comes in on one lane: segments one after the other, received where their owner wants them.
//
// In place: straight into the engine's blocks, summed piece by piece while they are in the cache.
// Staged: into a buffer of the channel's, shown when it is whole. Dropped: read and forgotten.
//
// Confined to one thread; calls its owner from read().
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "transfer/tcp/outgoing.h"
#include "transfer/tcp/records.h"
#include "transfer/tcp/runs.h"
#include "transfer/tcp/staged_buffers.h"

namespace baton::tcp {

class Incoming {
 public:
  // Both outlive this.
  Incoming(ChannelEvents& events, StagedBuffers& buffers) : events_(events), buffers_(buffers) {}

  // Reads, at most about `budget` bytes; kBlocked: nothing more is there; kNoMemory: again once a
  // buffer is free. Errors: kUnavailable (the connection ended), kProtocol.
  Result<Pass> read(int socket, uint64_t budget);

  // If a segment of this handoff (nullptr: of any) is being received into a place, it no longer is
  // when this returns: what still comes of it is dropped. Its header, for on_placed.
  std::optional<SegmentHeader> lose_place(const HandoffAttempt* handoff);
  // The socket is closed: a read() that is under way, in a callback, does not touch it again.
  void stop() { stopped_ = true; }

 private:
  struct InPlace {
    Runs runs;
    RunCursor next;    // to be received
    RunCursor summed;  // in the checksum
    ChecksumPass pass;
  };
  enum class Kind : uint8_t { kInPlace, kStaged, kDropped };

  void list_payload(uint64_t bytes);
  void received(uint64_t bytes);
  Status take_control();
  void end_segment(const Trailer& trailer);

  ChannelEvents& events_;
  StagedBuffers& buffers_;

  // Between two payloads stand the trailer of the one and the header of the next: read together,
  // kept here.
  std::array<std::byte, kTrailerBytes + kHeaderBytes> control_;
  size_t filled_ = kTrailerBytes;  // before the first header stands no trailer
  bool in_payload_ = false;
  bool trailer_due_ = false;
  bool waits_ = false;  // the header is read, a buffer is missing
  bool stopped_ = false;

  SegmentHeader header_;
  Kind kind_ = Kind::kDropped;
  uint64_t payload_ = 0;  // bytes received of it
  std::optional<InPlace> in_place_;
  std::shared_ptr<StagedBuffers::Buffer> staged_;
  std::vector<iovec> list_;
};

}  // namespace baton::tcp
