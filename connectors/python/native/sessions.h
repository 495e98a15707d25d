// The sessions as Python holds them: connectors/'s own, with the node kept alive and callbacks that
// leave the session's tag in the node's notices. What they do, and in which order, is said in
// connectors/prefill_session.h and decode_session.h.
//
// Externally synchronised, but released(), wait_released() and report() are thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "connectors/decode_session.h"
#include "connectors/prefill_session.h"
#include "connectors/python/native/node_handle.h"

namespace baton::python {

// Set once by on_released; outlives the session.
class Release {
 public:
  // A session's on_released.
  static std::function<void()> callback(const std::shared_ptr<Release>& release,
                                        std::shared_ptr<Notices> notices, uint64_t tag);
  bool done() const;
  // Whether it has come within the time. Not on the progress thread; without the GIL.
  bool wait(Duration deadline) const;

 private:
  mutable Mutex mutex_;
  mutable CondVar set_;
  bool done_ BATON_GUARDED_BY(mutex_) = false;
};

// Holds a place among the node's sessions.
class SessionOfNode {
 public:
  explicit SessionOfNode(std::shared_ptr<NodeHandle> node) : node_(std::move(node)) {
    node_->add_session();
  }
  ~SessionOfNode() { node_->remove_session(); }
  SessionOfNode(const SessionOfNode&) = delete;
  SessionOfNode& operator=(const SessionOfNode&) = delete;
  NodeHandle& operator*() const { return *node_; }

 private:
  const std::shared_ptr<NodeHandle> node_;
};

// What both kinds are made of; texts as kv_transfer_params has them.
struct SessionRequest {
  std::string handoff;
  uint32_t attempt = 1;
  std::vector<std::string> peer;
  double budget_s = 0;
  std::vector<uint32_t> tokens;
  std::string salt;
  std::string adapter;
  uint64_t tag = 0;
  std::optional<double> lease_s;  // of a prefill without a peer
};

class PyPrefillSession {
 public:
  PyPrefillSession(std::shared_ptr<NodeHandle> node, SessionRequest request);

  PrefillSession& session() { return *session_; }
  const Release& release() const { return *release_; }

 private:
  const SessionOfNode node_;
  const std::shared_ptr<Release> release_ = std::make_shared<Release>();
  std::unique_ptr<PrefillSession> session_;
};

class PyDecodeSession {
 public:
  // flow: "push" or "fetch".
  PyDecodeSession(std::shared_ptr<NodeHandle> node, SessionRequest request,
                  const std::string& flow);

  DecodeSession& session() { return *session_; }
  const Release& release() const { return *release_; }

 private:
  const SessionOfNode node_;
  const std::shared_ptr<Release> release_ = std::make_shared<Release>();
  std::unique_ptr<DecodeSession> session_;
};

}  // namespace baton::python
