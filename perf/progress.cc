#include "perf/progress.h"

#include <cstdio>

namespace baton::bench {

void Progress::begin(std::string what) { what_ = std::move(what); }

void Progress::step(uint32_t done, uint32_t all) {
  constexpr Duration kPause = std::chrono::seconds(2);
  if (now() - said_at_ < kPause) return;
  said_at_ = now();
  std::fprintf(stderr, "baton-bench: %s: round %u of %u\n", what_.c_str(), done + 1, all);
}

}  // namespace baton::bench
