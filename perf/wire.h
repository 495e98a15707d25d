// What the two processes of a measurement say to each other: JSON objects, one a line, over a
// stream socket. Not on the measured path.
//
// Externally synchronised.
#pragma once

#include <string>

#include "perf/result.h"
#include "transfer/base/address.h"
#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"

namespace baton::bench {

class Wire {
 public:
  explicit Wire(UniqueFd fd) : fd_(std::move(fd)) {}

  Status send(const Json& message);
  // kDeadlineExceeded; kUnavailable where the other side has gone.
  Result<Json> receive(Duration deadline);
  // Whether receive() would find something, the end included, without waiting.
  bool readable() const;
  // Sends and waits for the answer. An answer {"error": text, "code": n} is that error.
  Result<Json> call(const Json& request, Duration deadline);

 private:
  UniqueFd fd_;
  std::string unread_;
};

Json error_answer(const Status& status);
// The error that an answer carries, or ok.
Status error_of(const Json& answer);

// TCP, with TCP_NODELAY. Errors name the address.
Result<UniqueFd> dial(const HostPort& address, Duration deadline);
// Listens; the second is the bound address.
Result<std::pair<UniqueFd, HostPort>> listen_at(const HostPort& address);
// kDeadlineExceeded.
Result<UniqueFd> accept_from(int listener, Duration deadline);

// Waits until the descriptor is readable (writable); kDeadlineExceeded.
Status wait_readable(int fd, TimePoint deadline);
Status wait_writable(int fd, TimePoint deadline);

}  // namespace baton::bench
