// The keys of what has left last, without the things themselves, and a small number for each: what
// comes back soon is worth more than what is new.
//
// Thread safety: externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

namespace baton::scheduler {

class GhostKeys {
 public:
  // Of no more than the `window` that left last anything is remembered.
  void remember(uint64_t key, uint8_t value, size_t window) {
    values_[key] = {++count_, value};
    order_.push_back({count_, key});
    while (order_.size() > window) {
      // It may have left a second time, or have come back, since.
      const auto [number, oldest] = order_.front();
      order_.pop_front();
      if (const auto found = values_.find(oldest);
          found != values_.end() && found->second.number == number)
        values_.erase(found);
    }
  }

  // What was remembered of it, and no more from now on.
  std::optional<uint8_t> recall(uint64_t key) {
    const auto found = values_.find(key);
    if (found == values_.end()) return std::nullopt;
    const uint8_t value = found->second.value;
    values_.erase(found);
    return value;
  }

  size_t size() const { return values_.size(); }

 private:
  struct Value {
    uint64_t number;  // of its departure
    uint8_t value;
  };
  struct Departure {
    uint64_t number;
    uint64_t key;
  };
  std::unordered_map<uint64_t, Value> values_;
  std::deque<Departure> order_;  // oldest first, those that came back included
  uint64_t count_ = 0;
};

}  // namespace baton::scheduler
