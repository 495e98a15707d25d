// UCX's listener: peers connect to its address. A connection so made is one pair of endpoints with
// sockets or queue pairs of its own, which closing an endpoint really ends: by contrast, of an
// endpoint made from a worker's address UCX keeps the TCP socket for receiving after the close.
//
// Confined to the progress thread.
#pragma once

#include <ucp/api/ucp.h>

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>

#include "transfer/ucx/ucp_worker.h"

namespace baton::ucx {

class UcpListener {
 public:
  // Runs inside UCX: may only accept later (UcpEp::accept), or reject.
  using OnConnection = std::function<void(ucp_conn_request_h)>;
  // Errors: kUnavailable where the address cannot be listened at.
  static Result<std::unique_ptr<UcpListener>> create(std::shared_ptr<UcpWorker> worker,
                                                     const boost::asio::ip::tcp::endpoint& address,
                                                     OnConnection on_connection);
  ~UcpListener();
  UcpListener(const UcpListener&) = delete;
  UcpListener& operator=(const UcpListener&) = delete;

  uint16_t port() const { return port_; }  // bound
  void reject(ucp_conn_request_h request) { ucp_listener_reject(listener_, request); }

 private:
  UcpListener(std::shared_ptr<UcpWorker> worker, OnConnection on_connection)
      : worker_(std::move(worker)), on_connection_(std::move(on_connection)) {}

  const std::shared_ptr<UcpWorker> worker_;
  const OnConnection on_connection_;
  ucp_listener_h listener_ = nullptr;
  uint16_t port_ = 0;
};

}  // namespace baton::ucx
