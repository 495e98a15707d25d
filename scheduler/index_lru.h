// Least recently used first, of things that have numbers: what eviction.h does for keys, in 8 bytes
// for each number and without an allocation after the first.
//
// Pure bookkeeping; whoever owns the things decides when, and leaves out what must stay. Every
// operation is O(1).
//
// Thread safety: externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "transfer/base/check.h"

namespace baton::scheduler {

class IndexLru {
 public:
  // Of the numbers below `count`; none is in the order yet.
  explicit IndexLru(uint32_t count) : links_(size_t{count} + 1) {
    for (Link& link : links_) link = {kOut, kOut};
    links_[count] = {count, count};  // the ends' neighbour: an empty ring
  }

  // Makes `index` the most recently used; adds it where absent.
  void touch(uint32_t index) {
    remove(index);
    const uint32_t ring = sentinel();
    const uint32_t last = links_[ring].before;
    links_[index] = {last, ring};
    links_[last].after = index;
    links_[ring].before = index;
    ++size_;
  }

  // False where absent.
  bool remove(uint32_t index) {
    BATON_CHECK(index < sentinel(), "a number that is not of this order");
    if (!contains(index)) return false;
    const Link link = links_[index];
    links_[link.before].after = link.after;
    links_[link.after].before = link.before;
    links_[index] = {kOut, kOut};
    --size_;
    return true;
  }

  bool contains(uint32_t index) const { return links_[index].after != kOut; }

  // The least recently used, to leave first.
  std::optional<uint32_t> oldest() const {
    const uint32_t first = links_[sentinel()].after;
    if (first == sentinel()) return std::nullopt;
    return first;
  }

  size_t size() const { return size_; }

 private:
  static constexpr uint32_t kOut = UINT32_MAX;
  struct Link {
    uint32_t before, after;
  };

  uint32_t sentinel() const { return static_cast<uint32_t>(links_.size() - 1); }

  std::vector<Link> links_;  // the last one joins newest and oldest
  size_t size_ = 0;
};

}  // namespace baton::scheduler
