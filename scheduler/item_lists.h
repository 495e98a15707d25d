// Lists over the same items, each of which stands in at most one of them. Items are small numbers
// that their owner gives, densely from 0 on, so that a list is links in an array.
//
// Every operation is O(1), but that the array grows with the largest item.
//
// Thread safety: externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace baton::scheduler {

using Item = uint32_t;
inline constexpr Item kNoItem = UINT32_MAX;

class ItemLists {
 public:
  using List = uint32_t;
  static constexpr List kNoList = UINT32_MAX;

  explicit ItemLists(size_t lists = 0) : lists_(lists) {}

  List add_list() {
    lists_.emplace_back();
    return static_cast<List>(lists_.size() - 1);
  }

  // Makes `item` the last of `list`, wherever it stood before.
  void move_to_back(List list, Item item) {
    if (item >= links_.size()) links_.resize(item + 1);
    remove(item);
    Ends& ends = lists_[list];
    links_[item] = {ends.last, kNoItem, list};
    (ends.last == kNoItem ? ends.first : links_[ends.last].next) = item;
    ends.last = item;
    ++ends.size;
  }
  // Nothing where it stands in none.
  void remove(Item item) {
    if (list_of(item) == kNoList) return;
    Link& link = links_[item];
    Ends& ends = lists_[link.list];
    (link.previous == kNoItem ? ends.first : links_[link.previous].next) = link.next;
    (link.next == kNoItem ? ends.last : links_[link.next].previous) = link.previous;
    --ends.size;
    link = {};
  }

  List list_of(Item item) const { return item < links_.size() ? links_[item].list : kNoList; }
  Item front(List list) const { return lists_[list].first; }  // kNoItem when empty
  size_t size(List list) const { return lists_[list].size; }

 private:
  struct Link {
    Item previous = kNoItem;
    Item next = kNoItem;
    List list = kNoList;
  };
  struct Ends {
    Item first = kNoItem;
    Item last = kNoItem;
    size_t size = 0;
  };
  std::vector<Link> links_;
  std::vector<Ends> lists_;
};

}  // namespace baton::scheduler
