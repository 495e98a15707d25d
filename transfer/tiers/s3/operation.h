// Something under way that the tier owns until it ends, by itself or because the tier closes.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>

#include "transfer/base/status.h"

namespace baton::s3 {

class Operation {
 public:
  virtual ~Operation() = default;
  // Ends now, with this; its callback runs before this returns.
  virtual void give_up(const Status& why) = 0;
};

class Operations {
 public:
  void add(std::unique_ptr<Operation> operation) {
    Operation* const key = operation.get();
    all_.emplace(key, std::move(operation));
  }
  // It has ended: destroys it.
  void remove(const Operation* operation) { all_.erase(operation); }
  void give_up_all(const Status& why) {
    while (!all_.empty()) all_.begin()->second->give_up(why);
  }
  bool empty() const { return all_.empty(); }

 private:
  std::unordered_map<const Operation*, std::unique_ptr<Operation>> all_;
};

}  // namespace baton::s3
