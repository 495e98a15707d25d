// Chunks that somebody outside keeps in the host tier under a name until a time: what the control
// API's pin is. Bounded in names and bytes, so that what is forgotten cannot fill the tier.
//
// Thread safety: confined to the node's progress thread.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/tiers/host_tier.h"

namespace baton {

class HostTier::NamedPins {
 public:
  NamedPins(size_t max_names, size_t max_bytes) : max_names_(max_names), max_bytes_(max_bytes) {}

  // In the place of what had that name. kInvalidArgument, kResourceExhausted: as
  // HostTier::pin_until; then what had that name stays.
  Status keep(const std::string& name, std::vector<Pin> pins, TimePoint until);
  bool drop(const std::string& name);
  // Lets go of those whose time is over; returns how many names. O(1) where it is nobody's.
  size_t expire(TimePoint now);
  // Lets go of chunks that look-ups find no more.
  void drop_erased();
  void clear() { names_.clear(), ends_.clear(), bytes_ = 0; }

  size_t names() const { return names_.size(); }

 private:
  struct Kept {
    std::vector<Pin> pins;
    TimePoint until;
    size_t bytes = 0;  // of slots
  };
  const size_t max_names_;
  const size_t max_bytes_;
  std::map<std::string, Kept> names_;
  std::set<std::pair<TimePoint, std::string>> ends_;
  size_t bytes_ = 0;  // a chunk counts under each name
};

}  // namespace baton
