// One request with UCX: it keeps its endpoint, and so the worker and the context, until UCX gives
// it back. What it reads or writes must live as long; its owner puts that into `done`.
//
// `done` runs exactly once, on the io_context, inside no call and not inside UCX: also when UCX
// was through at once, refused, or gave it back because the endpoint was closed.
//
// Confined to the progress thread.
#pragma once

#include <ucp/api/ucp.h>

#include <functional>
#include <memory>
#include <span>

#include "transfer/ucx/records.h"
#include "transfer/ucx/ucp_ep.h"

namespace baton::ucx {

class UcpRequest {
 public:
  using Done = std::function<void(ucs_status_t)>;

  // `flags` as ucp_am_send_nbx has them. Host memory only.
  static void send(std::shared_ptr<UcpEp> ep, const RecordBytes& header,
                   std::span<const std::byte> payload, uint32_t flags, Done done);
  // A rendezvous that `descriptor` announced, into `to`.
  static void receive(std::shared_ptr<UcpEp> ep, void* descriptor, std::span<std::byte> to,
                      Done done);

 private:
  UcpRequest(std::shared_ptr<UcpEp> ep, Done done);
  ucp_request_param_t parameters(uint32_t flags);
  static void began(UcpWorker& worker, UcpRequest* self, ucs_status_ptr_t request);
  void back(ucs_status_t status);  // deletes this
  static void on_sent(void* request, ucs_status_t status, void* self);
  static void on_received(void* request, ucs_status_t status, size_t bytes, void* self);

  const std::shared_ptr<UcpEp> ep_;
  Done done_;
  RecordBytes header_;
};

}  // namespace baton::ucx
