// Finds chunks by id among a million: an open-addressing table of 8 bytes a cell, so that a look-up
// touches two places in memory, and the keys of a whole prompt, which are known at once, are looked
// up with those places fetched ahead.
//
// Items are small, dense numbers that the owner gives. Every operation is O(1), but for the growth
// of the table, which doubles.
//
// Thread safety: externally synchronised; const functions may run together.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "transfer/chunk.h"

namespace baton {

class ChunkIndex {
 public:
  using Item = uint32_t;
  static constexpr Item kNone = UINT32_MAX;

  Item find(const ChunkId& id) const;
  // `id` is absent, and `item` not in use.
  void insert(const ChunkId& id, Item item);
  // `item` is there.
  void erase(Item item);
  size_t size() const { return size_; }

  // Calls on_item(item) for the leading keys that are there; returns how many.
  template <typename OnItem>
  size_t for_leading(std::span<const ChunkKey> keys, uint16_t kv_group, uint16_t head_group,
                     OnItem&& on_item) const;

 private:
  // Empty where item is kNone. `tag` has the high bits of the id's hash, the position among them.
  struct Cell {
    uint32_t tag = 0;
    Item item = kNone;
  };
  // So far ahead of their use are cells and ids fetched: as many misses are under way at once.
  static constexpr size_t kAhead = 8;

  static uint32_t tag_of(const ChunkId& id);
  size_t home(uint32_t tag) const { return tag >> (32 - bits_); }
  size_t next(size_t at) const { return (at + 1) & (cells_.size() - 1); }
  // The first item from `tag`'s home on that may be it.
  Item candidate(uint32_t tag) const;
  void place(Cell cell);
  void grow();

  std::vector<Cell> cells_;  // a power of two, at most half of them in use; none at first
  uint32_t bits_ = 0;        // log2 of their number
  size_t size_ = 0;
  std::vector<ChunkId> ids_;  // by item
};

template <typename OnItem>
size_t ChunkIndex::for_leading(std::span<const ChunkKey> keys, uint16_t kv_group,
                               uint16_t head_group, OnItem&& on_item) const {
  if (size_ == 0) return 0;
  std::array<uint32_t, 2 * kAhead> tags;
  std::array<Item, 2 * kAhead> candidates;
  for (size_t i = 0; i < keys.size() + 2 * kAhead; ++i) {
    if (i >= 2 * kAhead) {
      const size_t at = i - 2 * kAhead;
      const ChunkId id{keys[at], kv_group, head_group};
      Item item = candidates[at % candidates.size()];
      if (item != kNone && !(ids_[item] == id)) item = find(id);
      if (item == kNone) return at;
      on_item(item);
    }
    if (i >= kAhead && i - kAhead < keys.size()) {
      const size_t at = (i - kAhead) % tags.size();
      const Item item = candidate(tags[at]);
      candidates[at] = item;
      if (item != kNone) {
        __builtin_prefetch(&ids_[item]);
        __builtin_prefetch(reinterpret_cast<const char*>(&ids_[item] + 1) - 1);
      }
    }
    if (i < keys.size()) {
      const uint32_t tag = tag_of({keys[i], kv_group, head_group});
      tags[i % tags.size()] = tag;
      __builtin_prefetch(&cells_[home(tag)]);
    }
  }
  return keys.size();
}

}  // namespace baton
