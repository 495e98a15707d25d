#include "transfer/tcp/tcp_channel.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <string>
#include <utility>

namespace baton::tcp {
namespace {

using boost::system::error_code;

// After so many bytes other work of the thread has its turn: the other lanes, the peer's messages.
// What is written in one call costs less.
constexpr uint64_t kWriteTurnBytes = 1 << 20;
constexpr uint64_t kReadTurnBytes = 256 << 10;

Status closed_status() { return Status(Code::kUnavailable, "tcp channel: closed"); }

}  // namespace

ChannelCore::ChannelCore(std::vector<Socket> lanes, const TcpConfig& config, ChannelMemory memory,
                         ChannelEvents& events)
    : config_(config),
      memory_(std::move(memory)),
      events_(&events),
      buffers_(config.staged_bytes, [this] { memory_is_back(); }) {
  for (Socket& socket : lanes) {
    lanes_.push_back(std::make_unique<Lane>(std::move(socket), events, buffers_));
    lanes_.back()->out.lend(config_.zero_copy);
  }
}

void ChannelCore::start() {
  if (closed_) return;
  for (const auto& lane : lanes_) wait_readable(*lane);
}

// --- sending

ChannelCore::Lane* ChannelCore::emptiest_lane(const HandoffAttempt& handoff, bool with_room) const {
  const auto holds = [&](const auto& lane) { return lane->out.holds(handoff); };
  const auto taken = std::count_if(lanes_.begin(), lanes_.end(), holds);
  // One is left for others, where there are several.
  const bool on_those_only = taken > 0 && static_cast<size_t>(taken) + 1 >= lanes_.size();
  Lane* best = nullptr;
  for (const auto& lane : lanes_) {
    if ((on_those_only && !holds(lane)) || (with_room && !has_room(*lane))) continue;
    if (best == nullptr || lane->out.bytes() < best->out.bytes()) best = lane.get();
  }
  return best;
}

ChannelCore::Lane* ChannelCore::free_lane(const HandoffAttempt& handoff) {
  Lane* const lane = emptiest_lane(handoff, true);
  waits_for_lane_ = waits_for_lane_ || lane == nullptr;
  return lane;
}

bool ChannelCore::any_lane_free() {
  const bool any =
      std::any_of(lanes_.begin(), lanes_.end(), [&](const auto& lane) { return has_room(*lane); });
  waits_for_lane_ = waits_for_lane_ || !any;
  return any;
}

Status ChannelCore::no_lane() {
  return Status(
      Code::kResourceExhausted,
      "tcp channel: every lane holds " + std::to_string(config_.queued_segments) + " segments");
}

Result<std::optional<Staging>> ChannelCore::acquire(size_t bytes) {
  if (closed_) return closed_status();
  const size_t most = memory_.transit ? memory_.transit->slot_bytes() : 0;
  if (bytes == 0 || bytes > most) {
    return Status(Code::kInvalidArgument, "tcp channel: a segment of " + std::to_string(bytes) +
                                              " bytes, where a transit slot has " +
                                              std::to_string(most));
  }
  if (!any_lane_free()) return std::optional<Staging>();
  std::optional<SlotRef> slot = memory_.transit->allocate();
  if (!slot) {
    wait_for_memory();
    return std::optional<Staging>();
  }
  SlotWriter writer = memory_.transit->add_writer(*slot);
  const std::span<std::byte> lent = slot->bytes().first(bytes);
  return std::optional<Staging>(Staging{lent, std::move(*slot), std::move(writer)});
}

void ChannelCore::wait_for_memory() {
  if (std::exchange(waits_for_memory_, true)) return;
  memory_.queue->wait([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->waits_for_memory_ = false;
    if (!self->closed_or_gone()) self->events_->on_staging();
  });
}

Status ChannelCore::publish(const SegmentHeader& header, Source source, SlotRef slot,
                            std::span<std::byte> bytes, Channel::PublishDone done) {
  if (closed_) return closed_status();
  Lane* lane =
      source == Source::kStaging ? emptiest_lane(header.handoff, false) : free_lane(header.handoff);
  if (lane == nullptr) return no_lane();
  // Staging memory is used again as soon as it has been written.
  lane->out.add(header, std::move(slot), bytes,
                source == Source::kStaging ? Outgoing::Stays::kUntilWritten
                                           : Outgoing::Stays::kUntilAcknowledged,
                std::move(done));
  wake(*lane);
  return ok_status();
}

Status ChannelCore::send(const SegmentHeader& header, const SegmentPlace& place,
                         Channel::PublishDone done) {
  if (closed_) return closed_status();
  Lane* lane = free_lane(header.handoff);
  if (lane == nullptr) return no_lane();
  lane->out.add(header, place, std::move(done));
  wake(*lane);
  return ok_status();
}

void ChannelCore::wake(Lane& lane) {
  if (std::exchange(lane.writing, true)) return;
  // Posted twice: what became ready during the last pass, a message of the peer's above all, has
  // its turn before the next one.
  boost::asio::post(lane.socket.get_executor(), [self = shared_from_this(), &lane] {
    boost::asio::post(lane.socket.get_executor(), [self, &lane] {
      if (!self->closed_) self->write(lane);
    });
  });
}

void ChannelCore::write(Lane& lane) {
  auto finished = std::exchange(finished_, {});
  const size_t before = lane.out.segments();
  const Result<Pass> pass = lane.out.write(lane.socket.native_handle(), kWriteTurnBytes, finished);
  if (!pass.ok()) close(pass.status());
  // `writing` stays while these run: what they queue goes on below, not in a second chain of
  // passes.
  for (const auto& done : finished) done(ok_status());
  finished.clear();
  finished_ = std::move(finished);  // keeps its memory
  if (closed_) return;
  if (*pass == Pass::kBlocked) {
    wait_writable(lane);
  } else {
    lane.writing = false;
    if (lane.out.segments() != 0) wake(lane);
  }
  // Which lane is free for whom changes with each segment that is through.
  if (lane.out.segments() < before) tell_of_room();
}

void ChannelCore::tell_of_room() {
  if (events_ != nullptr && std::exchange(waits_for_lane_, false)) events_->on_staging();
}

void ChannelCore::wait_writable(Lane& lane) {
  lane.socket.async_wait(Socket::wait_write, [self = shared_from_this(), &lane](const error_code&) {
    if (!self->closed_) self->write(lane);
  });
}

// --- receiving

void ChannelCore::wait_readable(Lane& lane) {
  lane.socket.async_wait(Socket::wait_read, [self = shared_from_this(), &lane](const error_code&) {
    if (!self->closed_) self->read(lane);
  });
}

void ChannelCore::read(Lane& lane) {
  if (events_ == nullptr) return;
  const Result<Pass> pass = lane.in.read(lane.socket.native_handle(), kReadTurnBytes);
  if (!pass.ok()) return close(pass.status());
  if (closed_) return;
  if (*pass == Pass::kNoMemory) {
    lane.out_of_memory = true;
  } else {
    wait_readable(lane);
  }
}

// A staged segment was consumed while a lane waited for its memory.
void ChannelCore::memory_is_back() {
  boost::asio::post(lanes_.front()->socket.get_executor(), [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    for (const auto& lane : self->lanes_)
      if (!self->closed_ && std::exchange(lane->out_of_memory, false)) self->read(*lane);
  });
}

bool ChannelCore::full_for(const HandoffAttempt& handoff) {
  return !closed_ && free_lane(handoff) == nullptr;
}

// --- ends

void ChannelCore::forget(const HandoffAttempt& handoff) {
  if (closed_) return;  // finish() runs them
  std::vector<Channel::PublishDone> dones;
  std::vector<SegmentHeader> lost;
  for (const auto& lane : lanes_) {
    for (auto& done : lane->out.give_up(&handoff)) dones.push_back(std::move(done));
    if (const auto header = lane->in.lose_place(&handoff)) lost.push_back(*header);
  }
  if (dones.empty() && lost.empty()) return;
  boost::asio::post(lanes_.front()->socket.get_executor(),
                    [self = shared_from_this(), dones = std::move(dones), lost = std::move(lost)] {
                      const Status why(Code::kCancelled, "the handoff ended");
                      for (const auto& done : dones) done(why);
                      for (const SegmentHeader& header : lost)
                        if (self->events_ != nullptr) self->events_->on_placed(header, why);
                      if (!self->closed_) self->tell_of_room();
                    });
}

void ChannelCore::close(Status why) {
  if (std::exchange(closed_, true)) return;
  // Callbacks take place on this executor, which outlives the sockets.
  const auto executor = lanes_.front()->socket.get_executor();
  error_code ignored;
  for (const auto& lane : lanes_) {
    lane->in.stop();
    lane->socket.close(ignored);
  }
  boost::asio::post(executor,
                    [self = shared_from_this(), why = std::move(why)] { self->finish(why); });
}

void ChannelCore::finish(const Status& why) {
  const Status cancelled(Code::kCancelled, "the channel closed: " + why.message());
  for (const auto& lane : lanes_) {
    for (const auto& done : lane->out.give_up(nullptr)) done(cancelled);
    const auto header = lane->in.lose_place(nullptr);
    if (header && events_ != nullptr) events_->on_placed(*header, cancelled);
  }
  if (ChannelEvents* events = std::exchange(events_, nullptr)) events->on_channel_closed(why);
}

void ChannelCore::abandon() {
  events_ = nullptr;
  close(Status(Code::kCancelled, "the channel's owner let go of it"));
}

namespace {

class TcpChannel final : public Channel {
 public:
  explicit TcpChannel(std::shared_ptr<ChannelCore> core) : core_(std::move(core)) {}
  ~TcpChannel() override { core_->abandon(); }

  std::string_view transport() const override { return "tcp"; }
  Result<std::optional<Staging>> acquire(size_t bytes) override { return core_->acquire(bytes); }
  Status publish(const SegmentHeader& header, Staging staging, PublishDone done) override {
    staging.writer.reset();
    return core_->publish(header, ChannelCore::Source::kStaging, std::move(staging.slot),
                          staging.bytes, std::move(done));
  }
  Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                 PublishDone done) override {
    const std::span<std::byte> whole = slot.bytes();
    if (header.bytes == 0 || offset > whole.size() || header.bytes > whole.size() - offset) {
      return Status(Code::kInvalidArgument, "tcp channel: bytes " + std::to_string(offset) + " + " +
                                                std::to_string(header.bytes) + " of a slot of " +
                                                std::to_string(whole.size()));
    }
    return core_->publish(header, ChannelCore::Source::kSlot, std::move(slot),
                          whole.subspan(offset, header.bytes), std::move(done));
  }
  bool full() override { return core_->full(); }
  bool full_for(const HandoffAttempt& handoff) override { return core_->full_for(handoff); }
  bool sends_blocks() const override { return true; }
  Status send(const SegmentHeader& header, const SegmentPlace& place, PublishDone done) override {
    return core_->send(header, place, std::move(done));
  }
  void forget(const HandoffAttempt& handoff) override { core_->forget(handoff); }
  void close(Status why) override { core_->close(std::move(why)); }

 private:
  const std::shared_ptr<ChannelCore> core_;
};

}  // namespace

std::unique_ptr<Channel> make_channel(std::shared_ptr<ChannelCore> core) {
  return std::make_unique<TcpChannel>(std::move(core));
}

}  // namespace baton::tcp
