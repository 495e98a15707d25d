#include "transfer/handoff_registry.h"

namespace baton {

HandoffRegistry::HandoffRegistry(size_t max_live, Duration tombstone_ttl, size_t max_tombstones)
    : max_live_(max_live), ttl_(tombstone_ttl), max_tombstones_(max_tombstones) {}

Status HandoffRegistry::claim(HandoffRole role, const HandoffAttempt& handoff, TimePoint now) {
  MutexLock lock(mutex_);
  if (closed_) return Status(Code::kUnavailable, "the node is shutting down");
  PerRole& r = roles_[static_cast<size_t>(role)];
  if (const auto it = r.graves.find(handoff); it != r.graves.end() && it->second.until > now)
    return Status(Code::kRefused, "handoff " + handoff.to_string() +
                                      " has ended already: " + protocol::end_name(it->second.end));
  if (r.live.contains(handoff))
    return Status(Code::kExists, "handoff " + handoff.to_string() + " runs already");
  if (live_locked() >= max_live_)
    return Status(Code::kResourceExhausted, "the node has " + std::to_string(max_live_) +
                                                " handoffs under way, as many as it takes");
  r.live.insert(handoff);
  return ok_status();
}

void HandoffRegistry::release(HandoffRole role, const HandoffAttempt& handoff) {
  MutexLock lock(mutex_);
  roles_[static_cast<size_t>(role)].live.erase(handoff);
}

void HandoffRegistry::bury(HandoffRole role, const HandoffAttempt& handoff, protocol::End end,
                           TimePoint now) {
  MutexLock lock(mutex_);
  bury_locked(roles_[static_cast<size_t>(role)], handoff, end, now);
}

void HandoffRegistry::bury_locked(PerRole& role, const HandoffAttempt& handoff, protocol::End end,
                                  TimePoint now) {
  if (role.graves.insert_or_assign(handoff, Grave{end, now + ttl_}).second)
    role.order.push_back(handoff);
  while (!role.order.empty()) {
    const auto oldest = role.graves.find(role.order.front());
    if (oldest->second.until > now && role.order.size() <= max_tombstones_) break;
    role.graves.erase(oldest);
    role.order.pop_front();
  }
}

std::optional<protocol::End> HandoffRegistry::tombstone(HandoffRole role,
                                                        const HandoffAttempt& handoff,
                                                        TimePoint now) const {
  MutexLock lock(mutex_);
  const PerRole& r = roles_[static_cast<size_t>(role)];
  const auto it = r.graves.find(handoff);
  if (it == r.graves.end() || it->second.until <= now) return std::nullopt;
  return it->second.end;
}

void HandoffRegistry::close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

size_t HandoffRegistry::live() const {
  MutexLock lock(mutex_);
  return live_locked();
}

size_t HandoffRegistry::live_locked() const {
  size_t live = 0;
  for (const PerRole& role : roles_) live += role.live.size();
  return live;
}

}  // namespace baton
