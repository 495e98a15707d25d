#include "connectors/python/native/node_handle.h"

namespace baton::python {

void Notices::post(uint64_t tag) {
  MutexLock lock(mutex_);
  tags_.insert(tag);
  posted_.notify_all();
}

std::vector<uint64_t> Notices::take() {
  MutexLock lock(mutex_);
  std::vector<uint64_t> taken(tags_.begin(), tags_.end());
  tags_.clear();
  return taken;
}

bool Notices::wait(Duration deadline) {
  const TimePoint end = now() + deadline;
  MutexLock lock(mutex_);
  while (tags_.empty()) {
    if (now() >= end) return false;
    posted_.wait_until(mutex_, end);
  }
  return true;
}

NodeHandle::NodeHandle(NodeConfig config)
    : node_(value_or_throw(Node::create(std::move(config)))) {}

Node& NodeHandle::node() {
  if (node_ == nullptr) throw StatusError(Status(Code::kUnavailable, "the node is closed"));
  return *node_;
}

void NodeHandle::close() {
  if (const uint32_t open = sessions_; open != 0)
    throw StatusError(Status(Code::kInvalidArgument, "the node has " + std::to_string(open) +
                                                         " sessions: drop them before it"));
  node_.reset();
}

}  // namespace baton::python
