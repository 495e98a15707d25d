// Says on stderr what is being measured, at most every other second.
#pragma once

#include <string>

#include "transfer/base/clock.h"

namespace baton::bench {

class Progress {
 public:
  // What is measured from now on, e.g. "handoff block_bytes=65536".
  void begin(std::string what);
  void step(uint32_t done, uint32_t all);

 private:
  std::string what_;
  TimePoint said_at_{};
};

}  // namespace baton::bench
