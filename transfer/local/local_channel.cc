#include "transfer/local/local_channel.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cstring>

namespace baton::local {
namespace {

using boost::system::error_code;

constexpr size_t kReadRecords = 128;

void append(std::vector<std::byte>& to, const RecordBytes& record) {
  to.insert(to.end(), record.begin(), record.end());
}

}  // namespace

ChannelCore::ChannelCore(Socket socket, OwnMemory own, std::shared_ptr<const PeerMemory> peer,
                         uint32_t peer_max_published, ChannelEvents& events)
    : socket_(std::move(socket)),
      own_(std::move(own)),
      peer_(std::move(peer)),
      peer_max_published_(peer_max_published),
      events_(&events),
      published_(own_.max_published),
      in_(kReadRecords * kRecordBytes) {}

void ChannelCore::start() {
  if (!closed_) read();
}

Result<std::optional<Staging>> ChannelCore::acquire(size_t bytes) {
  if (closed_) return Status(Code::kUnavailable, "local channel: closed");
  const size_t most = own_.transit ? own_.transit->slot_bytes() : 0;
  if (bytes == 0 || bytes > most) {
    return Status(Code::kInvalidArgument, "local channel: a segment of " + std::to_string(bytes) +
                                              " bytes, where a transit slot has " +
                                              std::to_string(most));
  }
  if (published_.full() || !published_.may_stage(bytes, own_.max_staged_bytes)) {
    waits_for_peer_ = true;
    return std::optional<Staging>();
  }
  std::optional<SlotRef> slot = own_.transit->allocate();
  if (!slot) {
    wait_for_memory();
    return std::optional<Staging>();
  }
  SlotWriter writer = own_.transit->add_writer(*slot);
  const std::span<std::byte> lent = slot->bytes().first(bytes);
  return std::optional<Staging>(Staging{lent, std::move(*slot), std::move(writer)});
}

Status ChannelCore::publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                            Channel::PublishDone done) {
  if (closed_) return Status(Code::kUnavailable, "local channel: closed");
  const bool retained = slot && slot.pool() == own_.retained;
  if (!retained && !(slot && slot.pool() == own_.transit)) {
    return Status(Code::kInvalidArgument, "local channel: the slot is of neither of its arenas");
  }
  const size_t slot_bytes = slot.pool()->slot_bytes();
  if (header.bytes == 0 || offset > slot_bytes || header.bytes > slot_bytes - offset) {
    return Status(Code::kInvalidArgument, "local channel: bytes " + std::to_string(offset) + " + " +
                                              std::to_string(header.bytes) + " of a slot of " +
                                              std::to_string(slot_bytes));
  }
  if (published_.full()) {
    waits_for_peer_ = true;
    return Status(Code::kResourceExhausted, "local channel: " + std::to_string(published_.size()) +
                                                " segments are published and not consumed");
  }
  Publish publish{.header = header,
                  .arena = retained ? ArenaIndex::kRetained : ArenaIndex::kTransit,
                  .offset = slot.arena_offset() + offset};
  publish.sequence =
      published_.add(header.handoff, std::move(slot), retained ? 0 : header.bytes, std::move(done));
  append(out_, encode(publish));
  schedule_flush();
  return ok_status();
}

Status ChannelCore::publish_staged(const SegmentHeader& header, SlotRef slot,
                                   Channel::PublishDone done) {
  if (closed_ || !published_.full()) return publish(header, std::move(slot), 0, std::move(done));
  waiting_.push_back({header, std::move(slot), std::move(done)});
  return ok_status();
}

void ChannelCore::wait_for_memory() {
  if (std::exchange(waits_for_memory_, true)) return;
  own_.queue->wait([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->waits_for_memory_ = false;
    if (!self->closed_ && self->events_ != nullptr) self->events_->on_staging();
  });
}

void ChannelCore::forget(const HandoffAttempt& handoff) {
  if (closed_) return;  // finish() runs them
  auto dones = published_.forget(handoff);
  for (Waiting& waiting : waiting_)
    if (waiting.header.handoff == handoff) dones.push_back(std::move(waiting.done));
  std::erase_if(waiting_, [&](const Waiting& w) { return w.header.handoff == handoff; });
  if (dones.empty()) return;
  boost::asio::post(socket_.get_executor(), [self = shared_from_this(), dones = std::move(dones)] {
    const Status why(Code::kCancelled, "the handoff ended");
    for (const auto& done : dones) {
      if (done) done(why);
    }
    self->tell_staging();  // others may stage what this one has let go of
  });
}

void ChannelCore::tell_staging() {
  if (closed_ || !waits_for_peer_ || events_ == nullptr) return;
  waits_for_peer_ = false;
  events_->on_staging();
}

void ChannelCore::read() {
  socket_.async_read_some(
      boost::asio::buffer(in_.data() + filled_, in_.size() - filled_),
      [self = shared_from_this()](const error_code& error, size_t bytes) {
        if (self->closed_) return;
        if (error) {
          return self->close(Status(
              Code::kUnavailable,
              "local channel: " +
                  (error == boost::asio::error::eof ? "the peer closed it" : error.message()),
              error.value()));
        }
        self->filled_ += bytes;
        self->take_records();
      });
}

// The owner may copy a segment before on_segment returns. So after each the rest waits for another
// turn: acknowledgements, cancellations, heartbeats and timers that are due go first.
void ChannelCore::take_records() {
  while (!closed_ && filled_ - taken_ >= kRecordBytes) {
    const std::span<const std::byte, kRecordBytes> record(in_.data() + taken_, kRecordBytes);
    const auto decoded = decode_record(record);
    if (!decoded.ok()) return close(decoded.status());
    taken_ += kRecordBytes;
    const auto* publish = std::get_if<Publish>(&*decoded);
    const Status status =
        publish ? on_publish(*publish) : on_consumed(std::get<Consumed>(*decoded));
    if (!status.ok()) return close(status);
    if (publish == nullptr) continue;
    return boost::asio::post(socket_.get_executor(),
                             [self = shared_from_this()] { self->take_records(); });
  }
  if (closed_) return;
  std::memmove(in_.data(), in_.data() + taken_, filled_ - taken_);
  filled_ -= std::exchange(taken_, 0);
  read();
}

Status ChannelCore::on_publish(const Publish& publish) {
  const auto index = static_cast<size_t>(publish.arena);
  if (!peer_->arenas[index]) return Status(Code::kProtocol, "local channel: no such arena");
  BATON_RETURN_IF_ERROR(check_range(publish, peer_->geometry[index]));
  if (publish.sequence != last_sequence_ + 1) {
    return Status(Code::kProtocol, "local channel: sequence " + std::to_string(publish.sequence) +
                                       " follows " + std::to_string(last_sequence_));
  }
  if (owed_ >= peer_max_published_) {
    return Status(Code::kProtocol, "local channel: more published than the peer greeted with");
  }
  last_sequence_ = publish.sequence;
  ++owed_;
  const std::span<const std::byte> bytes(peer_->arenas[index]->data() + publish.offset,
                                         publish.header.bytes);
  // The mapping lives as long as the bytes may be read, also after the channel.
  ReceivedBytes payload(bytes,
                        [weak = weak_from_this(), memory = peer_, sequence = publish.sequence] {
                          if (const auto self = weak.lock()) self->consumed_here(sequence);
                        });
  if (events_ != nullptr) events_->on_segment(publish.header, std::move(payload));
  return ok_status();
}

Status ChannelCore::on_consumed(const Consumed& consumed) {
  for (uint16_t i = 0; i < consumed.count && !closed_; ++i) {
    BATON_ASSIGN_OR_RETURN(const auto done, published_.consumed(consumed.sequences[i]));
    if (done) done(ok_status());
  }
  while (!closed_ && !waiting_.empty() && !published_.full()) {
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    BATON_RETURN_IF_ERROR(publish(next.header, std::move(next.slot), 0, std::move(next.done)));
  }
  tell_staging();
  return ok_status();
}

void ChannelCore::consumed_here(uint64_t sequence) {
  if (closed_) return;
  consumed_.push_back(sequence);
  schedule_flush();
}

void ChannelCore::schedule_flush() {
  if (write_under_way_ || std::exchange(flush_posted_, true)) return;
  boost::asio::post(socket_.get_executor(), [self = shared_from_this()] {
    self->flush_posted_ = false;
    if (!self->write_under_way_) self->flush();
  });
}

void ChannelCore::flush() {
  if (closed_) return;
  for (size_t i = 0; i < consumed_.size(); i += kSequencesARecord) {
    Consumed record;
    record.count = static_cast<uint16_t>(std::min<size_t>(kSequencesARecord, consumed_.size() - i));
    std::copy_n(consumed_.begin() + static_cast<ptrdiff_t>(i), record.count,
                record.sequences.begin());
    append(out_, encode(record));
  }
  owed_ -= static_cast<uint32_t>(consumed_.size());
  consumed_.clear();
  if (out_.empty()) return;
  writing_.clear();
  std::swap(writing_, out_);
  write_under_way_ = true;
  boost::asio::async_write(
      socket_, boost::asio::buffer(writing_),
      [self = shared_from_this()](const error_code& error, size_t) {
        self->write_under_way_ = false;
        if (self->closed_) return;
        if (error) {
          return self->close(
              Status(Code::kUnavailable, "local channel: " + error.message(), error.value()));
        }
        self->flush();
      });
}

void ChannelCore::close(Status why) {
  if (std::exchange(closed_, true)) return;
  error_code ignored;
  socket_.close(ignored);
  boost::asio::post(socket_.get_executor(),
                    [self = shared_from_this(), why = std::move(why)] { self->finish(why); });
}

void ChannelCore::finish(const Status& why) {
  const Status cancelled(Code::kCancelled, "the channel closed: " + why.message());
  for (const auto& done : published_.forget_all()) {
    if (done) done(cancelled);
  }
  for (const Waiting& waiting : std::exchange(waiting_, {}))
    if (waiting.done) waiting.done(cancelled);
  if (ChannelEvents* events = std::exchange(events_, nullptr)) events->on_channel_closed(why);
}

void ChannelCore::abandon() {
  events_ = nullptr;
  close(Status(Code::kCancelled, "the channel's owner let go of it"));
}

namespace {

class LocalChannel final : public Channel {
 public:
  explicit LocalChannel(std::shared_ptr<ChannelCore> core) : core_(std::move(core)) {}
  ~LocalChannel() override { core_->abandon(); }

  std::string_view transport() const override { return "local"; }
  Result<std::optional<Staging>> acquire(size_t bytes) override { return core_->acquire(bytes); }
  Status publish(const SegmentHeader& header, Staging staging, PublishDone done) override {
    staging.writer.reset();
    return core_->publish_staged(header, std::move(staging.slot), std::move(done));
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
  return std::make_unique<LocalChannel>(std::move(core));
}

}  // namespace baton::local
