#include "transfer/ucx/ucp_listener.h"

#include <netinet/in.h>

#include <cstring>
#include <sstream>

#include "transfer/ucx/ucp_context.h"

namespace baton::ucx {

Result<std::unique_ptr<UcpListener>> UcpListener::create(
    ucp_worker_h worker, const boost::asio::ip::tcp::endpoint& address,
    OnConnection on_connection) {
  std::unique_ptr<UcpListener> listener(new UcpListener(std::move(on_connection)));
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr.addr = address.data();
  params.sockaddr.addrlen = static_cast<socklen_t>(address.size());
  params.conn_handler.cb = [](ucp_conn_request_h request, void* self) {
    auto* listener = static_cast<UcpListener*>(self);
    if (!listener->on_connection_) return listener->reject(request);
    listener->on_connection_(request);
  };
  params.conn_handler.arg = listener.get();
  ucs_status_t status = ucp_listener_create(worker, &params, &listener->listener_);
  if (status != UCS_OK) {
    std::ostringstream where;
    where << address;
    return Status(Code::kUnavailable,
                  "channel ucx: cannot listen at " + where.str() + ": " + ucs_status_string(status),
                  status);
  }
  ucp_listener_attr_t attributes{};
  attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  status = ucp_listener_query(listener->listener_, &attributes);
  if (status != UCS_OK) return ucx_error("ucp_listener_query", status);
  // The port lies at the same place in both families.
  sockaddr_in bound{};
  std::memcpy(&bound, &attributes.sockaddr, sizeof bound);
  listener->port_ = ntohs(bound.sin_port);
  return listener;
}

UcpListener::~UcpListener() {
  if (listener_ != nullptr) ucp_listener_destroy(listener_);
}

}  // namespace baton::ucx
