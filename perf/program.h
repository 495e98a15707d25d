// Another program that a measurement needs.
//
// Externally synchronised.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"

namespace baton::bench {

// Ended with this, and with this process. What it writes, errors too, is read from here.
class Program {
 public:
  static constexpr int kNoSuchProgram = 127;  // its exit code, as the shell's and env's

  // kNoSuchProgram is not noticed here.
  static Result<std::unique_ptr<Program>> start(const std::vector<std::string>& words);
  ~Program();

  // Whether it ends within so long.
  bool ended(Duration wait) const;
  // All that it writes until it ends, half a minute at most, and its exit code.
  Result<std::pair<std::string, int>> finish();
  // Its next line, without the end; kUnavailable where it ends before, kDeadlineExceeded.
  Result<std::string> line(Duration wait);

 private:
  explicit Program(UniqueFd output) : output_(std::move(output)) {}
  // Appends to `unread_`; false at the end.
  Result<bool> read_more(TimePoint deadline);

  const UniqueFd output_;
  std::string unread_;
  pid_t pid_ = -1;
};

}  // namespace baton::bench
