// A tcp channel once its lanes are connected: segments in both directions.
//
// What is sent goes straight from the engine's blocks, or from slots and staging memory, to the
// lane with the least before it. What comes is received straight into the engine's blocks where
// its owner has a place for it. Closing the sockets is the fence: only this thread's system calls
// read or write for them, so that after it nothing does.
//
// Confined to the io_context's thread.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <vector>

#include "transfer/channel_endpoint.h"
#include "transfer/tcp/incoming.h"
#include "transfer/tcp/outgoing.h"
#include "transfer/tcp/tcp_config.h"

namespace baton::tcp {

class ChannelCore : public std::enable_shared_from_this<ChannelCore> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  ChannelCore(std::vector<Socket> lanes, const TcpConfig& config, ChannelMemory memory,
              ChannelEvents& events);

  void start();
  Result<std::optional<Staging>> acquire(size_t bytes);
  // Of staging memory: acquire() saw that a lane had room; what took it meanwhile does not count.
  enum class Source : uint8_t { kSlot, kStaging };
  Status publish(const SegmentHeader& header, Source source, SlotRef slot,
                 std::span<std::byte> bytes, Channel::PublishDone done);
  Status send(const SegmentHeader& header, const SegmentPlace& place, Channel::PublishDone done);
  bool full() { return !closed_ && !any_lane_free(); }
  bool full_for(const HandoffAttempt& handoff);
  void forget(const HandoffAttempt& handoff);
  void close(Status why);
  // The owner's handle is gone: close without telling it.
  void abandon();

 private:
  struct Lane {
    Lane(Socket socket, ChannelEvents& events, StagedBuffers& buffers)
        : socket(std::move(socket)), in(events, buffers) {}
    Socket socket;
    Outgoing out;
    Incoming in;
    bool writing = false;  // a pass is posted, or the socket is waited for
    bool out_of_memory = false;
  };

  bool has_room(const Lane& lane) const { return lane.out.segments() < config_.queued_segments; }
  // With the least before it, of those that this handoff's next segment may take.
  Lane* emptiest_lane(const HandoffAttempt& handoff, bool with_room) const;
  // Null where none of them has room: on_staging() tells when one may.
  Lane* free_lane(const HandoffAttempt& handoff);
  bool any_lane_free();
  void tell_of_room();
  Status no_lane();
  void wake(Lane& lane);
  void write(Lane& lane);
  void wait_writable(Lane& lane);
  void wait_readable(Lane& lane);
  void read(Lane& lane);
  void memory_is_back();
  void wait_for_memory();
  void finish(const Status& why);
  bool closed_or_gone() const { return closed_ || events_ == nullptr; }

  const TcpConfig config_;
  const ChannelMemory memory_;
  ChannelEvents* events_;  // null once abandoned
  // Before the buffers: a lane that goes with half a segment gives its buffer back, and nobody is
  // to be woken for it then.
  std::vector<std::unique_ptr<Lane>> lanes_;
  StagedBuffers buffers_;
  std::vector<Channel::PublishDone> finished_;
  bool waits_for_lane_ = false;
  bool waits_for_memory_ = false;
  bool closed_ = false;
};

// The owner's handle.
std::unique_ptr<Channel> make_channel(std::shared_ptr<ChannelCore> core);

}  // namespace baton::tcp
