// A pipe by which memory goes into a socket without being copied: its pages are lent to the system
// (vmsplice), which reads them when the network card or, on one host, the receiver takes the bytes.
//
// So what lies there must stay as it is until the *peer* has said that it has the bytes; if it does
// not, the peer gets other bytes, and its checksum says so. See vmsplice(2), splice(2).
//
// Confined to one thread, whose SIGPIPE create() blocks: splice() has no MSG_NOSIGNAL.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>

#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"

namespace baton::tcp {

class SplicePipe {
 public:
  // None where the system has no such pipe, or only a small one: pipe-max-size and, for all pipes
  // of a user, pipe-user-pages-soft (proc(5)).
  static std::optional<SplicePipe> create();

  // Lends memory behind what the pipe holds; fewer bytes than listed where it is full. Errors: the
  // system does not lend this memory (a device's, say).
  Result<uint64_t> lend(std::span<const iovec> list);

  // Moves what the pipe holds into the socket, which does not block. False: it takes no more now.
  // `more`: further bytes follow at once. Errors: kUnavailable, the connection is of no use any
  // more.
  Result<bool> flush(int socket, bool more);

  uint64_t bytes() const { return bytes_; }

 private:
  SplicePipe(UniqueFd in, UniqueFd out) : in_(std::move(in)), out_(std::move(out)) {}

  UniqueFd in_;
  UniqueFd out_;
  uint64_t bytes_ = 0;
};

}  // namespace baton::tcp
