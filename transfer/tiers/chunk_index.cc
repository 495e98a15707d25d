#include "transfer/tiers/chunk_index.h"

#include "transfer/base/check.h"

namespace baton {
namespace {

constexpr uint32_t kFirstBits = 8;
constexpr uint32_t kMostBits = 31;

}  // namespace

uint32_t ChunkIndex::tag_of(const ChunkId& id) {
  uint64_t bits;
  std::memcpy(&bits, id.key.bytes.data(), sizeof bits);
  // Keys are uniform already; the groups have to reach the high bits, too.
  bits ^= uint64_t{id.kv_group} << 16 | id.head_group;
  bits = (bits ^ bits >> 32) * 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>(bits >> 32);
}

ChunkIndex::Item ChunkIndex::find(const ChunkId& id) const {
  if (size_ == 0) return kNone;
  const uint32_t tag = tag_of(id);
  for (size_t at = home(tag); cells_[at].item != kNone; at = next(at))
    if (cells_[at].tag == tag && ids_[cells_[at].item] == id) return cells_[at].item;
  return kNone;
}

ChunkIndex::Item ChunkIndex::candidate(uint32_t tag) const {
  size_t at = home(tag);
  while (cells_[at].item != kNone && cells_[at].tag != tag) at = next(at);
  return cells_[at].item;
}

void ChunkIndex::place(Cell cell) {
  size_t at = home(cell.tag);
  while (cells_[at].item != kNone) at = next(at);
  cells_[at] = cell;
}

void ChunkIndex::grow() {
  bits_ = bits_ == 0 ? kFirstBits : bits_ + 1;
  BATON_CHECK(bits_ <= kMostBits, "more chunks than an index has room for");
  std::vector<Cell> old(size_t{1} << bits_);
  old.swap(cells_);
  for (const Cell& cell : old)
    if (cell.item != kNone) place(cell);
}

void ChunkIndex::insert(const ChunkId& id, Item item) {
  if (2 * (size_ + 1) > cells_.size()) grow();
  if (item >= ids_.size()) ids_.resize(size_t{item} + 1);
  ids_[item] = id;
  place({tag_of(id), item});
  ++size_;
}

void ChunkIndex::erase(Item item) {
  size_t hole = home(tag_of(ids_[item]));
  while (cells_[hole].item != item) hole = next(hole);
  // What comes behind moves up, but for what would then stand before its home.
  for (size_t at = next(hole); cells_[at].item != kNone; at = next(at)) {
    const size_t mask = cells_.size() - 1;
    if (((at - home(cells_[at].tag)) & mask) < ((at - hole) & mask)) continue;
    cells_[hole] = cells_[at];
    hole = at;
  }
  cells_[hole] = {};
  --size_;
}

}  // namespace baton
