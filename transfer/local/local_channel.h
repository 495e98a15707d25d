// A local channel once both greetings are through: records in both directions.
//
// PUBLISH and CONSUMED are gathered while a write is under way and leave together. What the peer
// says is checked against the geometry that it greeted with; what is wrong ends the channel. One
// segment is shown a turn of the io_context: between two of them whatever else is due runs.
//
// Confined to the io_context's thread.
#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <deque>
#include <memory>
#include <vector>

#include "transfer/channel_endpoint.h"
#include "transfer/local/published.h"
#include "transfer/local/records.h"

namespace baton::local {

// The peer's arenas, mapped as long as anybody may read them.
struct PeerMemory {
  std::array<Geometry, kArenas> geometry;
  std::array<std::unique_ptr<PeerArena>, kArenas> arenas;
};

// What a channel needs of its node.
struct OwnMemory : ChannelMemory {
  uint32_t max_published = 0;
  uint64_t max_staged_bytes = 0;
};

class ChannelCore : public std::enable_shared_from_this<ChannelCore> {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;

  ChannelCore(Socket socket, OwnMemory own, std::shared_ptr<const PeerMemory> peer,
              uint32_t peer_max_published, ChannelEvents& events);

  void start();
  Result<std::optional<Staging>> acquire(size_t bytes);
  Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                 Channel::PublishDone done);
  // From staging memory, which acquire() lent when there was room: waits where others have taken it
  // meanwhile.
  Status publish_staged(const SegmentHeader& header, SlotRef slot, Channel::PublishDone done);
  void forget(const HandoffAttempt& handoff);
  void close(Status why);
  // The owner's handle is gone: close without telling it.
  void abandon();

 private:
  void read();
  void take_records();
  Status on_publish(const Publish& publish);
  Status on_consumed(const Consumed& consumed);
  void consumed_here(uint64_t sequence);
  void wait_for_memory();
  void tell_staging();
  void schedule_flush();
  void flush();
  void finish(const Status& why);

  Socket socket_;
  const OwnMemory own_;
  const std::shared_ptr<const PeerMemory> peer_;
  const uint32_t peer_max_published_;
  ChannelEvents* events_;  // null once abandoned
  Published published_;
  struct Waiting {
    SegmentHeader header;
    SlotRef slot;
    Channel::PublishDone done;
  };
  std::deque<Waiting> waiting_;     // staged, for a segment to be consumed
  uint64_t last_sequence_ = 0;      // of the peer
  uint32_t owed_ = 0;               // PUBLISHes of the peer whose CONSUMED is not encoded yet
  std::vector<uint64_t> consumed_;  // to be told to the peer
  std::vector<std::byte> in_;       // [taken_, filled_): read and not taken yet
  size_t taken_ = 0;
  size_t filled_ = 0;
  std::vector<std::byte> out_;
  std::vector<std::byte> writing_;
  bool flush_posted_ = false;
  bool write_under_way_ = false;
  bool waits_for_memory_ = false;
  bool waits_for_peer_ = false;  // as much is published, or staged, as may be
  bool closed_ = false;
};

// The owner's handle.
std::unique_ptr<Channel> make_channel(std::shared_ptr<ChannelCore> core);

}  // namespace baton::local
