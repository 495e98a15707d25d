// Least recently used first, of things that have numbers: what eviction.h does for keys, in 8 bytes
// for each number and without an allocation after the first. Several orders may share those 8
// bytes, where a number is in one of them at a time.
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
  // Of the numbers below `count`; none is in an order yet.
  explicit IndexLru(uint32_t count, uint32_t orders = 1)
      : count_(count), links_(size_t{count} + orders, Link{kOut, kOut}), sizes_(orders) {
    for (uint32_t order = 0; order < orders; ++order)
      links_[end_of(order)] = {end_of(order), end_of(order)};
  }

  // Makes `index` the most recently used; adds it where absent. It is in no other order.
  void touch(uint32_t index, uint32_t order = 0) {
    remove(index, order);
    const uint32_t end = end_of(order);
    const uint32_t last = links_[end].before;
    links_[index] = {last, end};
    links_[last].after = index;
    links_[end].before = index;
    ++sizes_[order];
  }

  // False where absent.
  bool remove(uint32_t index, uint32_t order = 0) {
    BATON_CHECK(index < count_, "a number that is not of this order");
    const Link link = links_[index];
    if (link.after == kOut) return false;
    links_[link.before].after = link.after;
    links_[link.after].before = link.before;
    links_[index] = {kOut, kOut};
    --sizes_[order];
    return true;
  }

  // Whether it is in any order.
  bool contains(uint32_t index) const { return links_[index].after != kOut; }

  // The least recently used, to leave first.
  std::optional<uint32_t> oldest(uint32_t order = 0) const {
    const uint32_t first = links_[end_of(order)].after;
    if (first == end_of(order)) return std::nullopt;
    return first;
  }

  size_t size(uint32_t order = 0) const { return sizes_[order]; }

 private:
  static constexpr uint32_t kOut = UINT32_MAX;
  struct Link {
    uint32_t before, after;
  };

  // Joins the newest and the oldest.
  uint32_t end_of(uint32_t order) const { return count_ + order; }

  const uint32_t count_;
  std::vector<Link> links_;
  std::vector<size_t> sizes_;
};

}  // namespace baton::scheduler
