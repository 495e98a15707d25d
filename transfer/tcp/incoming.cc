#include "transfer/tcp/incoming.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

namespace baton::tcp {
namespace {

// What one system call brings: it is summed next, and must still be in the second cache then.
constexpr uint64_t kReadBytes = 256 << 10;
constexpr size_t kMaxReadList = 512;

// What is dropped goes here; nobody reads it.
std::span<std::byte> sink() {
  thread_local std::array<std::byte, 64 << 10> bytes;
  return bytes;
}

}  // namespace

void Incoming::list_payload(uint64_t bytes) {
  bytes = std::min(bytes, kReadBytes);
  switch (kind_) {
    case Kind::kInPlace:
      in_place_->next.list(in_place_->runs, bytes, kMaxReadList, list_);
      return;
    case Kind::kStaged:
      list_.push_back({staged_->bytes().data() + payload_, bytes});
      return;
    case Kind::kDropped:
      list_.push_back({sink().data(), std::min<uint64_t>(bytes, sink().size())});
      return;
  }
}

Result<Pass> Incoming::read(int socket, uint64_t budget) {
  while (true) {
    if (stopped_) return Pass::kIdle;
    if (waits_) {
      staged_ = buffers_.take(header_.bytes);
      if (!staged_) return Pass::kNoMemory;
      waits_ = false;
    }
    if (budget == 0) return Pass::kSpent;
    list_.clear();
    uint64_t wanted = 0;
    uint64_t payload = 0;
    if (in_payload_) {
      list_payload(header_.bytes - payload_);
      for (const iovec& piece : list_) payload += piece.iov_len;
      wanted = payload;
    }
    if (!in_payload_ || payload_ + payload == header_.bytes) {
      list_.push_back({control_.data() + filled_, control_.size() - filled_});
      wanted += control_.size() - filled_;
    }
    msghdr message{};
    message.msg_iov = list_.data();
    message.msg_iovlen = list_.size();
    const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return Pass::kBlocked;
      return Status(Code::kUnavailable, Status::from_errno("tcp channel: receive", errno).message(),
                    errno);
    }
    if (got == 0) return Status(Code::kUnavailable, "tcp channel: the peer closed it");
    const auto bytes = static_cast<uint64_t>(got);
    budget -= std::min(budget, bytes);
    const uint64_t of_payload = std::min(bytes, payload);
    if (of_payload > 0) received(of_payload);
    filled_ += bytes - of_payload;
    if (const Status status = take_control(); !status.ok()) return status;
  }
}

void Incoming::received(uint64_t bytes) {
  payload_ += bytes;
  const bool whole = payload_ == header_.bytes;
  if (kind_ == Kind::kInPlace) {
    in_place_->next.advance(in_place_->runs, bytes);
    // Whole stripes, so that none is put together from two passes.
    const uint64_t end = whole ? payload_ : payload_ / kStripeBytes * kStripeBytes;
    in_place_->summed.sum(in_place_->runs, end, in_place_->pass);
  }
  if (!whole) return;
  in_payload_ = false;
  trailer_due_ = true;
  filled_ = 0;
}

Status Incoming::take_control() {
  if (in_payload_) return ok_status();
  const std::span<std::byte> control(control_);
  if (trailer_due_ && filled_ >= kTrailerBytes) {
    BATON_ASSIGN_OR_RETURN(const Trailer trailer, decode_trailer(control.first<kTrailerBytes>()));
    trailer_due_ = false;
    end_segment(trailer);
  }
  if (filled_ < control_.size()) return ok_status();
  BATON_ASSIGN_OR_RETURN(header_, decode_header(control.last<kHeaderBytes>()));
  payload_ = 0;
  in_payload_ = true;
  auto where = events_.place(header_);
  if (auto* place = std::get_if<SegmentPlace>(&where)) {
    Runs runs(*place);
    const uint64_t bytes = runs.bytes();
    if (bytes != header_.bytes) {
      const Status why(Code::kInternal, "tcp channel: a place of " + std::to_string(bytes) +
                                            " bytes for a segment of " +
                                            std::to_string(header_.bytes));
      kind_ = Kind::kDropped;
      events_.on_placed(header_, why);
      return why;
    }
    kind_ = Kind::kInPlace;
    in_place_.emplace(InPlace{std::move(runs), {}, {}, ChecksumPass(place->seed, bytes)});
    return ok_status();
  }
  const bool staged = std::get<ChannelEvents::Otherwise>(where) == ChannelEvents::Otherwise::kStage;
  kind_ = staged ? Kind::kStaged : Kind::kDropped;
  waits_ = staged;
  return ok_status();
}

void Incoming::end_segment(const Trailer& trailer) {
  header_.checksum = trailer.checksum;
  if (kind_ == Kind::kInPlace) {
    Result<Checksum> checksum =
        trailer.given_up
            ? Result<Checksum>(Status(Code::kUnavailable, "the sender gave the segment up"))
            : Result<Checksum>(in_place_->pass.finish());
    in_place_.reset();
    kind_ = Kind::kDropped;
    events_.on_placed(header_, checksum);
  } else if (kind_ == Kind::kStaged) {
    kind_ = Kind::kDropped;
    const auto buffer = std::exchange(staged_, nullptr);
    if (trailer.given_up) return;
    events_.on_segment(header_, ReceivedBytes(buffer->bytes().first(header_.bytes), [buffer] {}));
  }
}

std::optional<SegmentHeader> Incoming::lose_place(const HandoffAttempt* handoff) {
  if (kind_ != Kind::kInPlace || (handoff != nullptr && header_.handoff != *handoff))
    return std::nullopt;
  kind_ = Kind::kDropped;
  in_place_.reset();
  return header_;
}

}  // namespace baton::tcp
