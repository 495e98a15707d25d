// The routes of a router.
//
// handle() runs on the loop's thread; the functions for shutting down are called from another.
#pragma once

#include <memory>
#include <unordered_map>

#include "router/dispatch.h"
#include "transfer/base/mutex.h"

namespace baton::router {

class FrontEnd {
 public:
  // All must outlive it.
  FrontEnd(const RouterConfig& config, http::EventLoop& loop, http::Client& client,
           Registry& registry, Metrics& metrics);

  void handle(std::shared_ptr<http::Exchange> exchange);

  // Completions are refused from now on, and /health says so. Returns when none is running, or
  // after `grace`, when those that are left have been given an error.
  void drain(Duration grace) BATON_EXCLUDES(mutex_);

 private:
  void complete(std::shared_ptr<http::Exchange> exchange);
  void health(http::Exchange& exchange) const;
  void models(std::shared_ptr<http::Exchange> exchange);
  void ask_for_models(std::shared_ptr<http::Exchange> exchange, std::vector<InstanceId> failed);
  void ended(Dispatch* dispatch) BATON_EXCLUDES(mutex_);

  const RouterConfig& config_;
  Registry& registry_;
  Metrics& all_metrics_;
  RouterMetrics metrics_;
  DispatchContext context_;
  // On the loop's thread:
  std::unordered_map<Dispatch*, std::shared_ptr<Dispatch>> running_;
  uint64_t turn_ = 0;
  bool draining_ = false;
  // For drain(), which waits:
  Mutex mutex_;
  CondVar changed_;
  size_t in_flight_ BATON_GUARDED_BY(mutex_) = 0;
};

}  // namespace baton::router
