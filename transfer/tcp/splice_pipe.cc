#include "transfer/tcp/splice_pipe.h"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <utility>

namespace baton::tcp {
namespace {

// Each page, or part of one, takes a place in the pipe. This many bytes in whole pages are what
// everybody may have; with much less, a system call would move too little to be worth it.
constexpr int kPipeBytes = 1 << 20;
constexpr int kLeastPipeBytes = 256 << 10;

void block_sigpipe() {
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
}

}  // namespace

std::optional<SplicePipe> SplicePipe::create() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return std::nullopt;
  UniqueFd out(ends[0]), in(ends[1]);
  if (::fcntl(in.get(), F_SETPIPE_SZ, kPipeBytes) < 0 &&
      ::fcntl(in.get(), F_SETPIPE_SZ, kLeastPipeBytes) < 0)
    return std::nullopt;
  block_sigpipe();
  return SplicePipe(std::move(in), std::move(out));
}

Result<uint64_t> SplicePipe::lend(std::span<const iovec> list) {
  ssize_t lent;
  do {
    lent = ::vmsplice(in_.get(), list.data(), list.size(), SPLICE_F_NONBLOCK);
  } while (lent < 0 && errno == EINTR);
  if (lent < 0) return Status::from_errno("vmsplice", errno);
  bytes_ += static_cast<uint64_t>(lent);
  return static_cast<uint64_t>(lent);
}

Result<bool> SplicePipe::flush(int socket, bool more) {
  while (bytes_ > 0) {
    const ssize_t moved = ::splice(out_.get(), nullptr, socket, nullptr, bytes_,
                                   SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0u));
    if (moved > 0) {
      bytes_ -= static_cast<uint64_t>(moved);
    } else if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      return false;
    } else if (moved == 0) {
      return Status(Code::kUnavailable, "tcp channel: splice moves nothing");
    } else if (errno != EINTR) {
      return Status(Code::kUnavailable, Status::from_errno("tcp channel: splice", errno).message(),
                    errno);
    }
  }
  return true;
}

}  // namespace baton::tcp
