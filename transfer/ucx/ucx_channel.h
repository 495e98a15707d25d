// A UCX channel once both greetings are through.
//
// Sending: a segment from a slot goes at once or not at all (kResourceExhausted); one from staging
// memory, which the owner has filled already, waits its turn. Either slot is held until UCX has
// given back every request that reads it, whatever becomes of the handoff or the channel. `done`
// means that the memory is free again, never that anything arrived.
//
// Receiving: a segment that came as one eager message is shown in UCX's buffer; others are put
// together in memory of ours. The peer may have max_unconsumed bytes out; what is consumed is told
// now and then.
//
// Confined to the io_context's thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "transfer/channel_endpoint.h"
#include "transfer/ucx/incoming.h"
#include "transfer/ucx/ucp_request.h"

namespace baton::ucx {

// What a channel needs of its node.
struct ChannelSetup {
  ChannelMemory memory;
  std::shared_ptr<ReceiveMemory> receive_memory;
  size_t message_bytes = 0;
  size_t max_sending_bytes = 0;
  uint64_t max_unconsumed = 0;  // charged bytes; ours
  Duration close_deadline{};
};

class ChannelCore : public std::enable_shared_from_this<ChannelCore> {
 public:
  // `ep` leads to the peer, which takes `peer_max_unconsumed` charged bytes and wants to see
  // `peer_token`.
  // `dialled`: the peer knows the channel already. Else nothing is sent before the peer has told
  // its first CONSUMED: a piece that overtook the answer to its greeting would find no channel
  // there.
  ChannelCore(boost::asio::io_context& io, const ChannelSetup& setup, std::shared_ptr<UcpEp> ep,
              uint64_t peer_token, uint64_t peer_max_unconsumed, bool dialled,
              ChannelEvents& events);

  const std::string& transport() const { return transport_; }
  Result<std::optional<Staging>> acquire(size_t bytes);
  Status publish(const SegmentHeader& header, Staging staging, Channel::PublishDone done);
  Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                 Channel::PublishDone done);
  void forget(const HandoffAttempt& handoff);
  void close(Status why);
  // The owner's handle is gone: close without telling it.
  void abandon();
  // Tells the peer how much was consumed: the dialling side at once, so that the peer may send.
  void tell_consumed();
  bool is_quiet() const { return closed_ && ep_->is_quiet(); }

  // --- from the worker, inside UCX
  ucs_status_t on_piece(const Piece& piece, void* data, size_t bytes,
                        const ucp_am_recv_param_t& param);
  void on_consumed(const Consumed& consumed);
  void on_bye();

 private:
  struct Outgoing {
    SegmentHeader header;
    SlotRef slot;
    size_t offset = 0;
    Channel::PublishDone done;  // null once it was told
    size_t pieces = 0;          // with UCX
    bool failed = false;
  };
  using OutgoingPtr = std::shared_ptr<Outgoing>;

  Status check(const SegmentHeader& header, const SlotRef& slot, size_t offset) const;
  Status check_size(size_t bytes) const;
  bool has_room(size_t bytes) const;
  void send(const OutgoingPtr& outgoing);
  void piece_back(const OutgoingPtr& outgoing, ucs_status_t status);
  void send_waiting();
  void room_again();
  void tell_later(const OutgoingPtr& outgoing, const Status& status);
  void wait_for_memory();
  ucs_status_t keep(const Piece& piece, const Incoming::Place& place, void* data, size_t bytes,
                    const ucp_am_recv_param_t& param);
  void landed(uint64_t sequence, const std::shared_ptr<PartialSegment>& segment, size_t bytes,
              bool whole);
  void show(const std::shared_ptr<PartialSegment>& segment, std::span<const std::byte> bytes,
            std::shared_ptr<void> holder);
  void consumed_here(uint64_t bytes);
  void broken(Status why);
  void finish();

  const ChannelSetup setup_;
  const std::shared_ptr<UcpEp> ep_;
  const uint64_t peer_token_;
  const uint64_t peer_max_unconsumed_;
  const std::string transport_;
  const uint32_t send_flags_;
  ChannelEvents* events_;  // null once abandoned, or told the end

  uint64_t next_sequence_ = 1;
  std::unordered_map<uint64_t, OutgoingPtr> sending_;  // with UCX, by sequence
  std::deque<OutgoingPtr> waiting_;                    // from staging memory
  size_t sending_bytes_ = 0;
  uint64_t charged_total_ = 0;   // to the peer
  uint64_t consumed_total_ = 0;  // by the peer

  Incoming incoming_;
  uint64_t told_total_ = 0;  // of what we consumed

  Status why_;
  boost::asio::steady_timer close_deadline_;
  bool peer_is_ready_;
  bool waits_for_memory_ = false;
  bool waits_for_room_ = false;
  bool closed_ = false;
};

// The owner's handle.
std::unique_ptr<Channel> make_channel(std::shared_ptr<ChannelCore> core);

}  // namespace baton::ucx
