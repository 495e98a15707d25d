// The order in which what is kept leaves when room is needed: least recently used first.
//
// Pure bookkeeping of keys; whoever owns the things decides when, and leaves out what must stay.
// Every operation is O(1).
//
// Thread safety: externally synchronised.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <unordered_map>

namespace baton::scheduler {

template <typename Key, typename Hash = std::hash<Key>>
class LruOrder {
 public:
  // Makes `key` the most recently used; adds it where absent.
  void touch(const Key& key) {
    if (const auto found = places_.find(key); found != places_.end()) {
      order_.splice(order_.end(), order_, found->second);
      return;
    }
    places_.emplace(key, order_.insert(order_.end(), key));
  }

  bool contains(const Key& key) const { return places_.contains(key); }

  // False where absent.
  bool remove(const Key& key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return false;
    order_.erase(found->second);
    places_.erase(found);
    return true;
  }

  // The least recently used, to leave first; null when empty. Valid until it is removed.
  const Key* oldest() const { return order_.empty() ? nullptr : &order_.front(); }

  size_t size() const { return order_.size(); }

 private:
  std::list<Key> order_;  // oldest first
  std::unordered_map<Key, typename std::list<Key>::iterator, Hash> places_;
};

}  // namespace baton::scheduler
