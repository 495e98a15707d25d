// A channel moves segments between this node and one peer.
//
// The control connection carries what is said about segments; a channel carries their bytes. The
// sending side fills memory that the channel lends (`acquire`, fill, `publish`: transient) or
// publishes bytes that already lie in one of this node's slots (retained). The receiving side is
// shown each segment where it lies, copies and verifies it in one pass, and lets go of it.
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

#include "kernels/checksum.h"
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

// What a channel tells its owner.
class ChannelEvents {
 public:
  virtual ~ChannelEvents() = default;
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

  // Sends bytes that lie in a slot of this node; `slot` is kept until `done`. Errors:
  // kResourceExhausted while too much is published and not consumed (on_staging follows).
  virtual Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                         PublishDone done) = 0;

  // Lets go of everything published for this handoff that the peer has not consumed: its end is
  // known, nobody waits for these bytes. (What a peer may still read is filtered by checksum.)
  virtual void forget(const HandoffAttempt& handoff) = 0;

  // Ends the channel: pending `done`s run with kCancelled, then on_channel_closed. Idempotent.
  virtual void close(Status why) = 0;
};

}  // namespace baton
