// A channel moves segments between this node and one peer.
//
// The control connection carries what is said about segments; a channel carries their bytes. The
// sending side publishes bytes that already lie in one of this node's slots (retained), fills
// memory that the channel lends (`acquire`, fill, `publish`), or has the channel send straight from
// the engine's blocks where it can (`send`). The receiving side is asked for each segment where it
// goes: into the engine's blocks, where the channel can do that, or nowhere in particular; then it
// is shown the bytes where they lie, copies and verifies them in one pass, and lets go of them.
//
// All calls and callbacks happen on the node's progress thread; callbacks never run inside a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include "kernels/checksum.h"
#include "kernels/kv_layout.h"
#include "transfer/base/ids.h"
#include "transfer/base/status.h"
#include "transfer/slot_pool.h"

namespace baton {

// Which segment these bytes are, as the sender says; the receiver believes only the checksum.
struct SegmentHeader {
  HandoffAttempt handoff;
  uint32_t segment = 0;  // protocol::SegmentMap index
  uint64_t bytes = 0;
  Checksum checksum;
};

// Keeps received bytes readable; destroying it tells the sender that they were consumed.
class ReceivedBytes {
 public:
  ReceivedBytes() = default;
  ReceivedBytes(std::span<const std::byte> bytes, std::function<void()> consumed)
      : bytes_(bytes), consumed_(std::move(consumed)) {}
  ReceivedBytes(ReceivedBytes&& other) noexcept { *this = std::move(other); }
  ReceivedBytes& operator=(ReceivedBytes&& other) noexcept {
    reset();
    bytes_ = std::exchange(other.bytes_, {});
    consumed_ = std::exchange(other.consumed_, nullptr);
    return *this;
  }
  ~ReceivedBytes() { reset(); }

  // May be memory that the sender could still write: what was read once may differ when read again.
  std::span<const std::byte> bytes() const { return bytes_; }
  void reset() {
    bytes_ = {};
    if (auto consumed = std::exchange(consumed_, nullptr)) consumed();
  }

 private:
  std::span<const std::byte> bytes_;
  std::function<void()> consumed_;
};

// A segment in an engine's blocks, for channels that move it without a copy of ours. The block
// list and the memory live until the channel says that it is through with them.
struct SegmentPlace {
  KvSegment blocks;
  PayloadOrder order = PayloadOrder::kTokenHead;
  ChecksumSeed seed;
};

// What a channel tells its owner.
class ChannelEvents {
 public:
  virtual ~ChannelEvents() = default;

  // Asked by channels that can receive into place, before the first byte of a segment (its checksum
  // is not known yet): into these blocks, then on_placed() follows; or kStage, then on_segment()
  // does; or kDrop, and the owner hears no more of it.
  enum class Otherwise : uint8_t { kStage, kDrop };
  virtual std::variant<Otherwise, SegmentPlace> place(const SegmentHeader&) {
    return Otherwise::kStage;
  }
  // Nothing writes to the place any more. The checksum of the bytes as they came, or why they did
  // not all come: kCancelled (forget, close), kUnavailable (the sender gave it up).
  virtual void on_placed(const SegmentHeader&, const Result<Checksum>&) {}

  virtual void on_segment(const SegmentHeader& header, ReceivedBytes payload) = 0;
  // Staging memory is free again after acquire() had none.
  virtual void on_staging() = 0;
  // The channel is gone: every publish_done has been called, nothing more arrives. Last callback.
  virtual void on_channel_closed(const Status& why) = 0;
};

// Memory of the channel's own, lent for one segment. Dropping it instead of publishing gives the
// memory back (once the writer is gone too).
struct Staging {
  std::span<std::byte> bytes;
  SlotRef slot;
  SlotWriter writer;  // counts the gather that fills it as this slot's writer
};

class Channel {
 public:
  virtual ~Channel() = default;

  // "local", "tcp", …: as metrics and answers write it.
  virtual std::string_view transport() const = 0;

  // Staging memory for one segment of `bytes`; nothing when all of it is in use (on_staging
  // follows). Errors: kInvalidArgument where a segment of that size never fits.
  virtual Result<std::optional<Staging>> acquire(size_t bytes) = 0;

  // Sends what was gathered into `staging`. `done` runs once: when the peer has consumed the bytes
  // or the channel is closed, and the staging memory is the channel's again.
  using PublishDone = std::function<void(const Status&)>;
  virtual Status publish(const SegmentHeader& header, Staging staging, PublishDone done) = 0;

  // Sends bytes that lie in a slot of this node; `slot` is kept until `done`. They stay as they are
  // until the peer has acknowledged the segment or its handoff is over: a channel may have lent
  // them to the system, and what changes there on its way does not verify. Errors:
  // kResourceExhausted while too much is published and not consumed (on_staging follows).
  virtual Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                         PublishDone done) = 0;

  // Whether nothing more can be taken now, of whichever handoff (on_staging follows once that
  // changes).
  virtual bool full() { return false; }

  // Whether nothing more of this handoff can be taken now, though of another one it might
  // (on_staging follows once that changes).
  virtual bool full_for(const HandoffAttempt&) { return false; }

  // Whether send() may be called.
  virtual bool sends_blocks() const { return false; }

  // Sends straight from the blocks; `header.checksum` does not count, the channel computes it on
  // the way. `done` runs once, when this process does not read the blocks any more; until when they
  // stay as they are, see above. Errors: kResourceExhausted while too much is on its way
  // (on_staging follows).
  virtual Status send(const SegmentHeader&, const SegmentPlace&, PublishDone) {
    return Status(Code::kInternal, "this channel does not send from blocks");
  }

  // The end of this handoff is known. Lets go of everything published or sent for it that is still
  // on its way, and receives nothing more into its places: when this returns nothing writes there,
  // and this process reads nothing; their callbacks follow. What the peer, or the system it was
  // lent to, still reads is filtered by checksum.
  virtual void forget(const HandoffAttempt& handoff) = 0;

  // Ends the channel: pending `done`s run with kCancelled, then on_channel_closed. Idempotent.
  virtual void close(Status why) = 0;
};

}  // namespace baton
