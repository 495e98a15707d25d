#include "transfer/tcp/outgoing.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "transfer/base/check.h"
#include "transfer/base/log.h"

namespace baton::tcp {
namespace {

// What one system call takes. Smaller ones leave the socket unlocked more often, and what comes in
// then (acknowledgements) costs the receiver the time in which it would read; larger ones are
// summed when they have left the second cache.
constexpr uint64_t kPieceBytes = 1 << 20;
constexpr size_t kMaxList = 512;  // entries of a list, but for a last trailer; the system's: 1,024
// Payloads whose pieces are shorter on the average are copied: a list of small pages costs both
// sides more than the copy (perf/results/).
constexpr uint64_t kLendBytes = 32 << 10;

alignas(64) constexpr std::array<std::byte, 64 << 10> kZeros{};

}  // namespace

void Outgoing::add(const SegmentHeader& header, SlotRef slot, std::span<std::byte> bytes,
                   Stays stays, Done done) {
  Segment segment;
  segment.header = header;
  segment.tail = encode(Trailer{header.checksum, false});
  segment.runs = Runs(bytes);
  segment.slot = std::move(slot);
  segment.lendable = stays == Stays::kUntilAcknowledged;
  segment.done = std::move(done);
  push(std::move(segment));
}

void Outgoing::add(const SegmentHeader& header, const SegmentPlace& place, Done done) {
  Segment segment;
  segment.header = header;
  segment.runs = Runs(place);
  BATON_CHECK(segment.runs.bytes() == header.bytes, "the place is as large as the segment");
  segment.pass.emplace(place.seed, segment.runs.bytes());
  segment.lendable = true;
  segment.done = std::move(done);
  push(std::move(segment));
}

void Outgoing::push(Segment segment) {
  segment.head = encode(segment.header);
  segment.lendable =
      segment.lendable && segment.runs.bytes() >= kLendBytes * segment.runs.pieces().size();
  bytes_ += segment.header.bytes;
  queue_.push_back(std::move(segment));
}

bool Outgoing::holds(const HandoffAttempt& handoff) const {
  return std::any_of(queue_.begin(), queue_.end(), [&](const Segment& segment) {
    return segment.header.handoff == handoff && !segment.given_up;
  });
}

Outgoing::Prepared Outgoing::prepare(uint64_t most) {
  list_.clear();
  Prepared prepared;
  const auto append = [&](const std::byte* from, uint64_t bytes) {
    list_.push_back({const_cast<std::byte*>(from), bytes});
    prepared.bytes += bytes;
  };
  for (Segment& segment : queue_) {
    if ((most == 0 && !segment.all_but_trailer()) || list_.size() + 2 >= kMaxList) break;
    if (segment.written < kHeaderBytes)
      append(segment.head.data() + segment.written, kHeaderBytes - segment.written);
    if (lends(segment)) {
      prepared.lends_next = true;
      break;
    }
    const uint64_t sent = segment.payload_written();
    const uint64_t left = segment.header.bytes - sent;
    uint64_t listed = std::min(left, most);
    if (segment.given_up && listed > 0) {
      listed = std::min<uint64_t>(listed, kZeros.size());
      append(kZeros.data(), listed);
    } else if (listed > 0) {
      listed = segment.next.list(segment.runs, listed, kMaxList - list_.size(), list_);
      prepared.bytes += listed;
    }
    most -= listed;
    // Its trailer goes with what follows, once the payload has been read and summed.
    if (listed < left || segment.pass) break;
    const uint64_t tail =
        segment.written - std::min<uint64_t>(segment.written, kHeaderBytes + segment.header.bytes);
    append(segment.tail.data() + tail, kTrailerBytes - tail);
  }
  return prepared;
}

void Outgoing::wrote(uint64_t bytes, std::vector<Done>& finished) {
  while (bytes > 0) {
    Segment& segment = queue_.front();
    const uint64_t record = kHeaderBytes + segment.header.bytes + kTrailerBytes;
    const uint64_t listed = segment.pass ? record - kTrailerBytes : record;
    const uint64_t taken = std::min(bytes, listed - segment.written);
    bytes -= taken;
    advance(segment, taken, finished);
    if (segment.written == record) queue_.pop_front();
  }
}

void Outgoing::advance(Segment& segment, uint64_t bytes, std::vector<Done>& finished) {
  const uint64_t before = segment.payload_written();
  segment.written += bytes;
  const uint64_t payload = segment.payload_written() - before;
  bytes_ -= payload;
  if (segment.given_up) return;
  segment.next.advance(segment.runs, payload);
  const uint64_t position = before + payload;
  const bool whole = position == segment.header.bytes;
  if (segment.pass) {
    // Whole stripes, so that none is put together from two passes.
    const uint64_t end = whole ? position : position / kStripeBytes * kStripeBytes;
    segment.summed.sum(segment.runs, end, *segment.pass);
  }
  if (!whole) return;
  if (segment.pass) segment.tail = encode(Trailer{segment.pass->finish(), false});
  segment.pass.reset();
  segment.slot.reset();
  if (segment.done) finished.push_back(std::exchange(segment.done, nullptr));
}

bool Outgoing::lends(const Segment& segment) const {
  return lend_ && segment.lendable && !segment.given_up && !segment.all_but_trailer();
}

Result<Pass> Outgoing::lend_next(int socket, uint64_t& budget, std::vector<Done>& finished) {
  if (!pipe_) pipe_ = SplicePipe::create();
  Segment& segment = queue_.front();
  list_.clear();
  segment.next.list(segment.runs, std::min(budget, kPieceBytes), kMaxList, list_);
  const Result<uint64_t> lent =
      pipe_ ? pipe_->lend(list_) : Status(Code::kResourceExhausted, "there is no large pipe");
  if (!lent.ok()) {
    log::info("tcp channel: what is sent is copied into the socket: {}", lent.status().message());
    lend_ = false;
    return Pass::kIdle;
  }
  segment.lent = true;
  // Before it is summed: the peer reads meanwhile.
  const Result<Pass> flushed = flush(socket);
  wrote(*lent, finished);
  budget -= std::min(budget, *lent);
  return flushed;
}

Result<Pass> Outgoing::flush(int socket) {
  if (!pipe_ || pipe_->bytes() == 0) return Pass::kIdle;
  // What was lent has at least its trailer behind it.
  const Result<bool> flushed = pipe_->flush(socket, true);
  if (!flushed.ok()) return flushed.status();
  return *flushed ? Pass::kIdle : Pass::kBlocked;
}

Result<Pass> Outgoing::copy_next(int socket, uint64_t& budget, std::vector<Done>& finished) {
  const Prepared prepared = prepare(std::min(budget, kPieceBytes));
  BATON_CHECK(prepared.bytes > 0, "there is something to write");
  msghdr message{};
  message.msg_iov = list_.data();
  message.msg_iovlen = list_.size();
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &message,
                     MSG_DONTWAIT | MSG_NOSIGNAL | (prepared.lends_next ? MSG_MORE : 0));
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Pass::kBlocked;
    return Status(Code::kUnavailable, Status::from_errno("tcp channel: send", errno).message(),
                  errno);
  }
  const auto bytes = static_cast<uint64_t>(sent);
  wrote(bytes, finished);
  budget -= std::min(budget, bytes);
  return bytes < prepared.bytes ? Pass::kBlocked : Pass::kIdle;
}

Result<Pass> Outgoing::write(int socket, uint64_t budget, std::vector<Done>& finished) {
  const uint64_t left_over = pipe_ ? pipe_->bytes() : 0;
  const Result<Pass> flushed = flush(socket);
  if (!flushed.ok() || *flushed == Pass::kBlocked) return flushed;
  budget -= std::min(budget, left_over);
  while (!queue_.empty()) {
    // A lone trailer is what a whole segment still waits for.
    if (budget == 0 && !(queue_.size() == 1 && queue_.front().all_but_trailer()))
      return Pass::kSpent;
    const Segment& first = queue_.front();
    const Result<Pass> step = first.written >= kHeaderBytes && lends(first)
                                  ? lend_next(socket, budget, finished)
                                  : copy_next(socket, budget, finished);
    if (!step.ok() || *step == Pass::kBlocked) return step;
  }
  return Pass::kIdle;
}

std::vector<Outgoing::Done> Outgoing::give_up(const HandoffAttempt* handoff) {
  std::vector<Done> dones;
  for (auto it = queue_.begin(); it != queue_.end();) {
    if (handoff != nullptr && it->header.handoff != *handoff) {
      ++it;
      continue;
    }
    if (it->done) dones.push_back(std::exchange(it->done, nullptr));
    if (it->written == 0) {
      bytes_ -= it->header.bytes;
      it = queue_.erase(it);
      continue;
    }
    // Whole payloads keep their trailer: it is known, and nothing is read for it any more; but for
    // those that were lent, whose memory is somebody else's now. A trailer that was begun stays.
    if (!it->all_but_trailer() || (it->lent && !it->trailer_begun())) {
      it->given_up = true;
      it->tail = encode(Trailer{{}, true});
      it->pass.reset();
      it->slot.reset();
      it->runs = Runs();
    }
    ++it;
  }
  if (handoff == nullptr) pipe_.reset();
  return dones;
}

}  // namespace baton::tcp
