#include "transfer/tcp/outgoing.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace baton::tcp {
namespace {

// What one system call takes: it is summed first, and must still be in the second cache then.
constexpr uint64_t kPieceBytes = 256 << 10;
constexpr size_t kMaxList = 512;  // entries of a list; the system's bound is 1,024

alignas(64) constexpr std::array<std::byte, 64 << 10> kZeros{};

}  // namespace

void Outgoing::add(const SegmentHeader& header, SlotRef slot, std::span<std::byte> bytes,
                   Done done) {
  Segment segment;
  segment.header = header;
  segment.tail = encode(Trailer{header.checksum, false});
  segment.runs = Runs(bytes);
  segment.slot = std::move(slot);
  segment.done = std::move(done);
  push(std::move(segment));
}

void Outgoing::add(const SegmentHeader& header, const SegmentPlace& place, Done done) {
  Segment segment;
  segment.header = header;
  segment.runs = Runs(place);
  segment.pass.emplace(place.seed, segment.runs.bytes());
  segment.done = std::move(done);
  push(std::move(segment));
}

void Outgoing::push(Segment segment) {
  segment.head = encode(segment.header);
  bytes_ += segment.header.bytes;
  queue_.push_back(std::move(segment));
}

uint64_t Outgoing::prepare(Segment& segment, uint64_t budget) {
  list_.clear();
  uint64_t prepared = 0;
  const auto append = [&](const std::byte* from, uint64_t bytes) {
    list_.push_back({const_cast<std::byte*>(from), bytes});
    prepared += bytes;
  };
  if (segment.written < kHeaderBytes)
    append(segment.head.data() + segment.written, kHeaderBytes - segment.written);
  const uint64_t payload = segment.header.bytes;
  const uint64_t sent = segment.written - std::min<uint64_t>(segment.written, kHeaderBytes);
  uint64_t listed = std::min(sent, payload);  // of the payload, once this is written
  if (const uint64_t piece = std::min({payload - listed, kPieceBytes, budget}); piece > 0) {
    if (segment.given_up) {
      append(kZeros.data(), std::min<uint64_t>(piece, kZeros.size()));
      listed += std::min<uint64_t>(piece, kZeros.size());
    } else {
      if (segment.pass) {
        // Whole stripes, so that none is put together from two passes.
        const uint64_t end = (listed + piece + kStripeBytes - 1) / kStripeBytes * kStripeBytes;
        segment.summed.sum(segment.runs, std::min(end, payload), *segment.pass);
      }
      const uint64_t taken = segment.next.list(segment.runs, piece, kMaxList, list_);
      prepared += taken;
      listed += taken;
    }
  }
  if (listed == payload) {
    if (segment.given_up) {
      segment.tail = encode(Trailer{{}, true});
    } else if (segment.pass) {
      segment.tail = encode(Trailer{segment.pass->finish(), false});
      segment.pass.reset();
    }
    const uint64_t tail = sent - std::min(sent, payload);
    append(segment.tail.data() + tail, kTrailerBytes - tail);
  }
  return prepared;
}

void Outgoing::wrote(Segment& segment, uint64_t bytes, std::vector<Done>& finished) {
  const auto payload_of = [&](uint64_t written) {
    return std::min(written - std::min<uint64_t>(written, kHeaderBytes), segment.header.bytes);
  };
  const uint64_t before = payload_of(segment.written);
  segment.written += bytes;
  const uint64_t payload = payload_of(segment.written) - before;
  bytes_ -= payload;
  if (segment.given_up) return;
  segment.next.advance(segment.runs, payload);
  if (before + payload < segment.header.bytes) return;
  segment.slot.reset();
  if (segment.done) finished.push_back(std::exchange(segment.done, nullptr));
}

Result<Pass> Outgoing::write(int socket, uint64_t budget, std::vector<Done>& finished) {
  while (!queue_.empty()) {
    if (budget == 0) return Pass::kSpent;
    Segment& segment = queue_.front();
    const uint64_t prepared = prepare(segment, budget);
    msghdr message{};
    message.msg_iov = list_.data();
    message.msg_iovlen = list_.size();
    const ssize_t sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return Pass::kBlocked;
      return Status(Code::kUnavailable, Status::from_errno("tcp channel: send", errno).message(),
                    errno);
    }
    const auto bytes = static_cast<uint64_t>(sent);
    wrote(segment, bytes, finished);
    if (segment.written == kHeaderBytes + segment.header.bytes + kTrailerBytes) queue_.pop_front();
    if (bytes < prepared) return Pass::kBlocked;
    budget -= std::min(budget, bytes);
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
    // Whole payloads keep their trailer: it is known, and nothing is read for it any more.
    const bool read_to_the_end = it->written >= kHeaderBytes + it->header.bytes;
    if (!read_to_the_end) {
      it->given_up = true;
      it->pass.reset();
      it->slot.reset();
      it->runs = Runs();
    }
    ++it;
  }
  return dones;
}

}  // namespace baton::tcp
