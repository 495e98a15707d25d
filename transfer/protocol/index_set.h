// A set of integers below a bound, ordered: a bitmap with summary bitmaps above it, 64 to 1. Equal
// sets are equal values, whatever their history.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <vector>

namespace baton::protocol {

class IndexSet {
 public:
  IndexSet() = default;
  // Of integers in [0, bound); empty.
  explicit IndexSet(uint32_t bound) {
    do {
      bound = (bound + 63) / 64;
      levels_.emplace_back(bound, 0);
    } while (bound > 1);
  }

  bool contains(uint32_t i) const { return (levels_[0][i / 64] >> (i % 64) & 1) != 0; }
  void insert(uint32_t i) {
    for (auto& level : levels_) {
      level[i / 64] |= uint64_t{1} << (i % 64);
      i /= 64;
    }
  }
  void erase(uint32_t i) {
    for (auto& level : levels_) {
      level[i / 64] &= ~(uint64_t{1} << (i % 64));
      if (level[i / 64] != 0) return;
      i /= 64;
    }
  }
  // The smallest member.
  std::optional<uint32_t> first() const {
    if (levels_.empty() || levels_.back().empty() || levels_.back()[0] == 0) return std::nullopt;
    uint32_t i = 0;
    for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
      i = i * 64 + static_cast<uint32_t>(std::countr_zero((*level)[i]));
    }
    return i;
  }
  bool operator==(const IndexSet&) const = default;

 private:
  std::vector<std::vector<uint64_t>> levels_;  // [0]: the members; the last has one word
};

}  // namespace baton::protocol
