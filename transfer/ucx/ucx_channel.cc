#include "transfer/ucx/ucx_channel.h"

#include <algorithm>
#include <cstring>

#include "transfer/base/log.h"

namespace baton::ucx {
namespace {

// Consumed bytes are told when they are this part of what the peer may have out, so that a peer
// that waits for room for half of it is always told.
constexpr uint64_t kTellPart = 8;

// Over TCP eager messages: a rendezvous there is emulated, and a round trip more (README.md).
// Elsewhere UCX knows best.
uint32_t flags_for(const std::string& transport) {
  return transport == "tcp" ? UCP_AM_SEND_FLAG_EAGER : 0;
}

}  // namespace

ChannelCore::ChannelCore(boost::asio::io_context& io, const ChannelSetup& setup,
                         std::shared_ptr<UcpEp> ep, uint64_t peer_token,
                         uint64_t peer_max_unconsumed, bool dialled, ChannelEvents& events)
    : setup_(setup),
      ep_(std::move(ep)),
      peer_token_(peer_token),
      peer_max_unconsumed_(peer_max_unconsumed),
      transport_("ucx:" + ep_->transport()),
      send_flags_(flags_for(ep_->transport())),
      events_(&events),
      incoming_(setup.max_unconsumed),
      close_deadline_(io),
      peer_is_ready_(dialled) {}

// --- sending

Status ChannelCore::check_size(size_t bytes) const {
  if (bytes == 0 || charge(bytes) > peer_max_unconsumed_ / 2) {
    return Status(Code::kInvalidArgument, "ucx channel: a segment of " + std::to_string(bytes) +
                                              " bytes, where the peer takes at most half of " +
                                              std::to_string(peer_max_unconsumed_));
  }
  return ok_status();
}

// One segment always may, however large.
bool ChannelCore::has_room(size_t bytes) const {
  if (!peer_is_ready_) return false;
  const bool sends = sending_bytes_ == 0 || sending_bytes_ + bytes <= setup_.max_sending_bytes;
  return sends && charged_total_ - consumed_total_ + charge(bytes) <= peer_max_unconsumed_;
}

Result<std::optional<Staging>> ChannelCore::acquire(size_t bytes) {
  if (closed_) return Status(Code::kUnavailable, "ucx channel: closed");
  const auto& transit = setup_.memory.transit;
  const size_t most = transit ? transit->slot_bytes() : 0;
  if (bytes > most) {
    return Status(Code::kInvalidArgument, "ucx channel: a segment of " + std::to_string(bytes) +
                                              " bytes, where a transit slot has " +
                                              std::to_string(most));
  }
  BATON_RETURN_IF_ERROR(check_size(bytes));
  if (!waiting_.empty() || !has_room(bytes)) {
    waits_for_room_ = true;
    return std::optional<Staging>();
  }
  std::optional<SlotRef> slot = transit->allocate();
  if (!slot) {
    wait_for_memory();
    return std::optional<Staging>();
  }
  SlotWriter writer = transit->add_writer(*slot);
  const std::span<std::byte> lent = slot->bytes().first(bytes);
  return std::optional<Staging>(Staging{lent, std::move(*slot), std::move(writer)});
}

void ChannelCore::wait_for_memory() {
  if (std::exchange(waits_for_memory_, true)) return;
  setup_.memory.queue->wait([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->waits_for_memory_ = false;
    if (!self->closed_ && self->events_ != nullptr) self->events_->on_staging();
  });
}

Status ChannelCore::check(const SegmentHeader& header, const SlotRef& slot, size_t offset) const {
  if (closed_) return Status(Code::kUnavailable, "ucx channel: closed");
  if (!slot || (slot.pool() != setup_.memory.retained && slot.pool() != setup_.memory.transit))
    return Status(Code::kInvalidArgument, "ucx channel: the slot is of neither of its arenas");
  const size_t slot_bytes = slot.pool()->slot_bytes();
  if (offset > slot_bytes || header.bytes > slot_bytes - offset) {
    return Status(Code::kInvalidArgument, "ucx channel: bytes " + std::to_string(offset) + " + " +
                                              std::to_string(header.bytes) + " of a slot of " +
                                              std::to_string(slot_bytes));
  }
  return check_size(header.bytes);
}

Status ChannelCore::publish(const SegmentHeader& header, Staging staging,
                            Channel::PublishDone done) {
  staging.writer.reset();
  BATON_RETURN_IF_ERROR(check(header, staging.slot, 0));
  waiting_.push_back(std::make_shared<Outgoing>(
      Outgoing{.header = header, .slot = std::move(staging.slot), .done = std::move(done)}));
  send_waiting();
  return ok_status();
}

Status ChannelCore::publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                            Channel::PublishDone done) {
  BATON_RETURN_IF_ERROR(check(header, slot, offset));
  if (!waiting_.empty() || !has_room(header.bytes)) {
    waits_for_room_ = true;
    return Status(Code::kResourceExhausted,
                  "ucx channel: " + std::to_string(sending_bytes_) + " bytes are being sent and " +
                      std::to_string(charged_total_ - consumed_total_) + " not consumed");
  }
  send(std::make_shared<Outgoing>(Outgoing{
      .header = header, .slot = std::move(slot), .offset = offset, .done = std::move(done)}));
  return ok_status();
}

void ChannelCore::send_waiting() {
  while (!closed_ && !waiting_.empty() && has_room(waiting_.front()->header.bytes)) {
    const OutgoingPtr next = std::move(waiting_.front());
    waiting_.pop_front();
    send(next);
  }
}

void ChannelCore::send(const OutgoingPtr& outgoing) {
  const uint64_t bytes = outgoing->header.bytes;
  const uint64_t sequence = next_sequence_++;
  sending_.emplace(sequence, outgoing);
  sending_bytes_ += bytes;
  charged_total_ += charge(bytes);
  // Only eager messages are cut: a rendezvous UCX cuts itself.
  const bool cut = (send_flags_ & UCP_AM_SEND_FLAG_EAGER) != 0 && bytes > setup_.message_bytes;
  const uint64_t pieces = cut ? (bytes + setup_.message_bytes - 1) / setup_.message_bytes : 1;
  const uint64_t piece_bytes = ((bytes + pieces - 1) / pieces + 63) / 64 * 64;
  const std::span<const std::byte> all = outgoing->slot.bytes().subspan(outgoing->offset, bytes);
  for (uint64_t at = 0; at < bytes; at += piece_bytes) {
    const auto payload = all.subspan(at, std::min(piece_bytes, bytes - at));
    ++outgoing->pieces;
    UcpRequest::send(ep_, encode(Piece{peer_token_, sequence, outgoing->header, at}), payload,
                     send_flags_,
                     [self = shared_from_this(), outgoing, sequence](ucs_status_t status) {
                       self->piece_back(outgoing, status);
                       if (outgoing->pieces == 0) self->sending_.erase(sequence);
                     });
  }
}

void ChannelCore::piece_back(const OutgoingPtr& outgoing, ucs_status_t status) {
  outgoing->failed |= status != UCS_OK;
  if (--outgoing->pieces != 0) return;
  outgoing->slot.reset();
  sending_bytes_ -= outgoing->header.bytes;
  const Status told = outgoing->failed || closed_
                          ? Status(Code::kCancelled, "ucx channel: the channel closed")
                          : ok_status();
  if (auto done = std::exchange(outgoing->done, nullptr)) done(told);
  if (closed_) return;
  // The peer can never put together what it has of that segment.
  if (outgoing->failed)
    return close(Status(Code::kUnavailable,
                        std::string("ucx channel: sending failed: ") + ucs_status_string(status),
                        status));
  room_again();
}

void ChannelCore::room_again() {
  send_waiting();
  if (!waiting_.empty() || closed_ || events_ == nullptr) return;
  if (std::exchange(waits_for_room_, false)) events_->on_staging();
}

void ChannelCore::on_consumed(const Consumed& consumed) {
  ep_->worker()->later([self = shared_from_this(), total = consumed.total] {
    if (self->closed_) return;
    const bool ready = !std::exchange(self->peer_is_ready_, true);
    if (total < self->consumed_total_ || (total == self->consumed_total_ && !ready)) return;
    if (total > self->charged_total_)
      return self->close(Status(Code::kProtocol, "ucx channel: the peer consumed " +
                                                     std::to_string(total) + " bytes of " +
                                                     std::to_string(self->charged_total_)));
    self->consumed_total_ = total;
    self->room_again();
  });
}

void ChannelCore::tell_later(const OutgoingPtr& outgoing, const Status& status) {
  if (!outgoing->done) return;
  ep_->worker()->later([done = std::exchange(outgoing->done, nullptr), status] { done(status); });
}

void ChannelCore::forget(const HandoffAttempt& handoff) {
  if (closed_) return;  // all come back
  const Status why(Code::kCancelled, "the handoff ended");
  // In the order in which they were published. UCX cannot take back an active message: the slots
  // of those it has are held until it is through.
  std::vector<std::pair<uint64_t, OutgoingPtr>> found(sending_.begin(), sending_.end());
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [sequence, outgoing] : found)
    if (outgoing->header.handoff == handoff) tell_later(outgoing, why);
  const auto of_it = [&](const OutgoingPtr& out) { return out->header.handoff == handoff; };
  for (const OutgoingPtr& outgoing : waiting_)
    if (of_it(outgoing)) tell_later(outgoing, why);
  std::erase_if(waiting_, of_it);
  incoming_.drop(handoff);
  if (waits_for_room_ && waiting_.empty())
    ep_->worker()->later([self = shared_from_this()] { self->room_again(); });
}

// --- receiving

ucs_status_t ChannelCore::on_piece(const Piece& piece, void* data, size_t bytes,
                                   const ucp_am_recv_param_t& param) {
  if (closed_) return UCS_OK;
  const auto place = incoming_.take(piece, bytes);
  if (!place.ok()) {
    broken(place.status());
    return UCS_OK;
  }
  return keep(piece, *place, data, bytes, param);
}

ucs_status_t ChannelCore::keep(const Piece& piece, const Incoming::Place& place, void* data,
                               size_t bytes, const ucp_am_recv_param_t& param) {
  const std::shared_ptr<PartialSegment>& segment = place.segment;
  const auto worker = ep_->worker();
  const bool persists = (param.recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) != 0;
  const bool rendezvous = (param.recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  if (place.whole && persists) {
    incoming_.finished(piece.sequence);
    worker->later([self = shared_from_this(), segment, bytes, data,
                   held = std::make_shared<HeldData>(worker, data)] {
      self->show(segment, {static_cast<const std::byte*>(data), bytes}, held);
    });
    return UCS_INPROGRESS;
  }
  if (!segment->memory) {
    auto block = setup_.receive_memory->take(segment->header.bytes);
    if (!block.data) {
      broken(Status(Code::kResourceExhausted, "ucx channel: no memory for a segment of " +
                                                  std::to_string(segment->header.bytes)));
      return UCS_OK;
    }
    segment->memory = std::make_shared<LentMemory>(setup_.receive_memory, std::move(block));
  }
  std::byte* to = segment->memory->data() + piece.offset;
  if (rendezvous) {
    // `memory` is held by the request: UCX may write to it until it gives the request back.
    UcpRequest::receive(
        ep_, data, {to, bytes},
        [self = shared_from_this(), segment, memory = segment->memory, sequence = piece.sequence,
         bytes](ucs_status_t status) { self->landed(sequence, segment, bytes, status == UCS_OK); });
    return UCS_INPROGRESS;
  }
  std::memcpy(to, data, bytes);
  worker->later([self = shared_from_this(), segment, sequence = piece.sequence, bytes] {
    self->landed(sequence, segment, bytes, true);
  });
  return UCS_OK;
}

void ChannelCore::landed(uint64_t sequence, const std::shared_ptr<PartialSegment>& segment,
                         size_t bytes, bool whole) {
  segment->landed += bytes;
  segment->damaged |= !whole;
  if (segment->landed != segment->header.bytes) return;
  incoming_.finished(sequence);
  const std::shared_ptr<LentMemory> memory = std::exchange(segment->memory, nullptr);
  show(segment, {memory->data(), segment->header.bytes}, memory);
}

void ChannelCore::show(const std::shared_ptr<PartialSegment>& segment,
                       std::span<const std::byte> bytes, std::shared_ptr<void> holder) {
  if (closed_) return;
  if (segment->dropped || segment->damaged || events_ == nullptr)
    return consumed_here(segment->header.bytes);
  // What holds the bytes lives as long as they may be read, also after the channel.
  events_->on_segment(segment->header,
                      ReceivedBytes(bytes, [weak = weak_from_this(), holder = std::move(holder),
                                            charged = segment->header.bytes]() mutable {
                        holder.reset();
                        if (const auto self = weak.lock()) self->consumed_here(charged);
                      }));
}

void ChannelCore::consumed_here(uint64_t bytes) {
  if (closed_) return;
  incoming_.consumed(bytes);
  if (incoming_.consumed_total() - told_total_ >= incoming_.max_unconsumed() / kTellPart)
    tell_consumed();
}

void ChannelCore::tell_consumed() {
  told_total_ = incoming_.consumed_total();
  UcpRequest::send(ep_, encode(Consumed{peer_token_, told_total_}), {}, UCP_AM_SEND_FLAG_EAGER,
                   [](ucs_status_t) {});  // that the peer is gone shows elsewhere
}

// --- the end

void ChannelCore::broken(Status why) {
  ep_->worker()->later(
      [self = shared_from_this(), why = std::move(why)] { self->close(std::move(why)); });
}

void ChannelCore::on_bye() {
  broken(Status(Code::kUnavailable, "ucx channel: the peer closed it"));
}

void ChannelCore::close(Status why) {
  if (std::exchange(closed_, true)) return;
  why_ = std::move(why);
  // Helps where the transport does not say so; what does not leave at once never does.
  UcpRequest::send(ep_, encode(Bye{peer_token_}), {}, UCP_AM_SEND_FLAG_EAGER, [](ucs_status_t) {});
  ep_->close([self = shared_from_this()] { self->finish(); });
  close_deadline_.expires_after(setup_.close_deadline);
  close_deadline_.async_wait([weak = weak_from_this()](const boost::system::error_code& cancelled) {
    const auto self = weak.lock();
    if (cancelled || !self) return;
    log::error("ucx did not give back all requests of a closed channel bytes={} after={}ms",
               self->sending_bytes_, to_ms(self->setup_.close_deadline));
    self->finish();
  });
}

void ChannelCore::finish() {
  close_deadline_.cancel();
  const Status cancelled(Code::kCancelled, "the channel closed: " + why_.message());
  // Nothing is left in sending_ unless the deadline passed: then the requests keep their slots.
  for (const auto& [sequence, outgoing] : sending_)
    if (auto done = std::exchange(outgoing->done, nullptr)) done(cancelled);
  for (const OutgoingPtr& outgoing : std::exchange(waiting_, {})) {
    outgoing->slot.reset();
    if (auto done = std::exchange(outgoing->done, nullptr)) done(cancelled);
  }
  if (ChannelEvents* events = std::exchange(events_, nullptr)) events->on_channel_closed(why_);
}

void ChannelCore::abandon() {
  events_ = nullptr;
  close(Status(Code::kCancelled, "the channel's owner let go of it"));
}

namespace {

class UcxChannel final : public Channel {
 public:
  explicit UcxChannel(std::shared_ptr<ChannelCore> core) : core_(std::move(core)) {}
  ~UcxChannel() override { core_->abandon(); }

  std::string_view transport() const override { return core_->transport(); }
  Result<std::optional<Staging>> acquire(size_t bytes) override { return core_->acquire(bytes); }
  Status publish(const SegmentHeader& header, Staging staging, PublishDone done) override {
    return core_->publish(header, std::move(staging), std::move(done));
  }
  Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                 PublishDone done) override {
    return core_->publish(header, std::move(slot), offset, std::move(done));
  }
  void forget(const HandoffAttempt& handoff) override { core_->forget(handoff); }
  void close(Status why) override { core_->close(std::move(why)); }

 private:
  const std::shared_ptr<ChannelCore> core_;
};

}  // namespace

std::unique_ptr<Channel> make_channel(std::shared_ptr<ChannelCore> core) {
  return std::make_unique<UcxChannel>(std::move(core));
}

}  // namespace baton::ucx
