#include "connectors/python/native/sessions.h"

namespace baton::python {
namespace {

HandoffAttempt attempt_of(const SessionRequest& request) {
  return {value_or_throw(HandoffId::parse(request.handoff)), request.attempt};
}

std::vector<HostPort> peer_of(const SessionRequest& request) {
  std::vector<HostPort> peer;
  for (const std::string& address : request.peer)
    peer.push_back(value_or_throw(HostPort::parse(address)));
  return peer;
}

Duration budget_of(const SessionRequest& request) {
  constexpr double kMost = 24 * 3600;
  if (!(request.budget_s > 0 && request.budget_s <= kMost))
    throw StatusError(
        Status(Code::kInvalidArgument, "the budget is " + std::to_string(request.budget_s) +
                                           " s: expected more than 0 and at most 86400"));
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(request.budget_s));
}

std::optional<Duration> lease_of(const SessionRequest& request) {
  if (!request.lease_s) return std::nullopt;
  if (!(*request.lease_s >= 0 && *request.lease_s <= 24 * 3600))
    throw StatusError(
        Status(Code::kInvalidArgument,
               "the lease is " + std::to_string(*request.lease_s) + " s: expected 0 to 86400"));
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*request.lease_s));
}

protocol::Flow flow_of(const std::string& text) {
  if (text == "push") return protocol::Flow::kPush;
  if (text == "fetch") return protocol::Flow::kFetch;
  throw StatusError(
      Status(Code::kInvalidArgument, "the flow is '" + text + "': expected 'push' or 'fetch'"));
}

}  // namespace

std::function<void()> Release::callback(const std::shared_ptr<Release>& release,
                                        std::shared_ptr<Notices> notices, uint64_t tag) {
  return [release, notices = std::move(notices), tag] {
    {
      MutexLock lock(release->mutex_);
      release->done_ = true;
      release->set_.notify_all();
    }
    notices->post(tag);
  };
}

bool Release::done() const {
  MutexLock lock(mutex_);
  return done_;
}

bool Release::wait(Duration deadline) const {
  const TimePoint end = now() + deadline;
  MutexLock lock(mutex_);
  while (!done_) {
    if (now() >= end) return false;
    set_.wait_until(mutex_, end);
  }
  return true;
}

PyPrefillSession::PyPrefillSession(std::shared_ptr<NodeHandle> node, SessionRequest request)
    : node_(std::move(node)) {
  session_ = value_or_throw(
      PrefillSession::create((*node_).node(),
                             {.handoff = attempt_of(request),
                              .peer = peer_of(request),
                              .budget = budget_of(request),
                              .lease = lease_of(request),
                              .tokens = std::move(request.tokens),
                              .salt = std::move(request.salt),
                              .adapter = std::move(request.adapter)},
                             Release::callback(release_, (*node_).notices(), request.tag)));
}

PyDecodeSession::PyDecodeSession(std::shared_ptr<NodeHandle> node, SessionRequest request,
                                 const std::string& flow)
    : node_(std::move(node)) {
  session_ = value_or_throw(DecodeSession::create(
      (*node_).node(),
      {.handoff = attempt_of(request),
       .flow = flow_of(flow),
       .peer = peer_of(request),
       .budget = budget_of(request),
       .tokens = std::move(request.tokens),
       .salt = std::move(request.salt),
       .adapter = std::move(request.adapter)},
      [notices = (*node_).notices(), tag = request.tag] { notices->post(tag); },
      Release::callback(release_, (*node_).notices(), request.tag)));
}

}  // namespace baton::python
