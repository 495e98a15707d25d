// UCX's endpoint: one end of a connection to a peer's worker, always in error mode PEER.
//
// close() is the fence: UCX lets go of everything that goes over it, and once `quiet` runs nothing
// reads or writes the memory of any of its requests.
//
// Confined to the progress thread.
#pragma once

#include <ucp/api/ucp.h>

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transfer/ucx/ucp_worker.h"

namespace baton::ucx {

class UcpEp : public std::enable_shared_from_this<UcpEp> {
 public:
  // `on_failed` runs at most once, not inside UCX, and not after close().
  using OnFailed = std::function<void(const Status&)>;
  static Result<std::shared_ptr<UcpEp>> connect(std::shared_ptr<UcpWorker> worker,
                                                const boost::asio::ip::tcp::endpoint& to,
                                                OnFailed on_failed);
  static Result<std::shared_ptr<UcpEp>> accept(std::shared_ptr<UcpWorker> worker,
                                               ucp_conn_request_h request, OnFailed on_failed);
  // Force-closes where nobody has; requests keep the endpoint, so there are none.
  ~UcpEp();
  UcpEp(const UcpEp&) = delete;
  UcpEp& operator=(const UcpEp&) = delete;

  ucp_ep_h handle() const { return ep_; }  // borrowed
  const std::shared_ptr<UcpWorker>& worker() const { return worker_; }
  // What it sends over, as UCX names it: "tcp", "rc_mlx5"; several joined by '+'.
  std::string transport() const;

  // Force-closes. `quiet` runs, not inside this call, once UCX has closed it and given back every
  // request. Only once.
  void close(std::function<void()> quiet);
  bool is_quiet() const { return closed_ && requests_ == 0; }

 private:
  friend class UcpRequest;
  UcpEp(std::shared_ptr<UcpWorker> worker, OnFailed on_failed);
  static Result<std::shared_ptr<UcpEp>> create(std::shared_ptr<UcpEp> ep, ucp_ep_params_t params);
  void request_back();
  void closed();
  void tell_if_quiet();
  static void on_error(void* self, ucp_ep_h ep, ucs_status_t status);

  const std::shared_ptr<UcpWorker> worker_;
  OnFailed on_failed_;
  ucp_ep_h ep_ = nullptr;
  std::function<void()> quiet_;
  size_t requests_ = 0;  // with UCX
  bool closing_ = false;
  bool closed_ = false;
};

}  // namespace baton::ucx
