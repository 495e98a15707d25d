#include "perf/reference_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace baton::bench {
namespace {

// A reference that stands still ends the program instead of keeping it.
constexpr timeval kStreamPatience{.tv_sec = 30, .tv_usec = 0};

}  // namespace

void tune_stream(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  constexpr char kCubic[] = "cubic";
  ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kCubic, sizeof kCubic - 1);
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kStreamPatience, sizeof kStreamPatience);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kStreamPatience, sizeof kStreamPatience);
}

Status stream_out(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        ::send(fd, bytes.data(), std::min(bytes.size(), kStreamPiece), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return Status::from_errno("the plain stream", errno);
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
  return ok_status();
}

Status stream_in(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::recv(fd, bytes.data(), std::min(bytes.size(), kStreamPiece), MSG_WAITALL);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::from_errno("the plain stream", errno);
    if (got == 0) return Status(Code::kUnavailable, "the plain stream ended early");
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
  return ok_status();
}

Status ping(int fd, uint32_t times) {
  std::array<std::byte, kPingBytes> bytes{};
  for (uint32_t i = 0; i < times; ++i) {
    BATON_RETURN_IF_ERROR(stream_out(fd, bytes));
    BATON_RETURN_IF_ERROR(stream_in(fd, bytes));
  }
  return ok_status();
}

Status pong(int fd, uint32_t times) {
  std::array<std::byte, kPingBytes> bytes{};
  for (uint32_t i = 0; i < times; ++i) {
    BATON_RETURN_IF_ERROR(stream_in(fd, bytes));
    BATON_RETURN_IF_ERROR(stream_out(fd, bytes));
  }
  return ok_status();
}

}  // namespace baton::bench
