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

#include "transfer/base/status.h"

namespace baton::ucx {

class UcpListener {
 public:
  // Runs inside UCX: may only accept later (UcpEp::accept), or reject.
  using OnConnection = std::function<void(ucp_conn_request_h)>;
  // The worker's, see UcpWorker::listen.
  static Result<std::unique_ptr<UcpListener>> create(ucp_worker_h worker,
                                                     const boost::asio::ip::tcp::endpoint& address,
                                                     OnConnection on_connection);
  // With UCX's thread held, and the worker goes before it is let go of: see ~UcpWorker.
  ~UcpListener();
  UcpListener(const UcpListener&) = delete;
  UcpListener& operator=(const UcpListener&) = delete;

  uint16_t port() const { return port_; }  // bound
  void reject(ucp_conn_request_h request) { ucp_listener_reject(listener_, request); }
  // What comes from now on is rejected, as long as the worker is progressed.
  void stop() { on_connection_ = nullptr; }

 private:
  explicit UcpListener(OnConnection on_connection) : on_connection_(std::move(on_connection)) {}

  OnConnection on_connection_;  // null once stopped
  ucp_listener_h listener_ = nullptr;
  uint16_t port_ = 0;
};

}  // namespace baton::ucx
