#include "transfer/ucx/ucp_request.h"

namespace baton::ucx {

UcpRequest::UcpRequest(std::shared_ptr<UcpEp> ep, Done done)
    : ep_(std::move(ep)), done_(std::move(done)) {
  ++ep_->requests_;
}

ucp_request_param_t UcpRequest::parameters(uint32_t flags) {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.user_data = this;
  param.flags = flags;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  return param;
}

void UcpRequest::send(std::shared_ptr<UcpEp> ep, const RecordBytes& header,
                      std::span<const std::byte> payload, uint32_t flags, Done done) {
  const auto worker = ep->worker();
  const ucp_ep_h handle = ep->handle();
  auto* self = new UcpRequest(std::move(ep), std::move(done));
  self->header_ = header;  // UCX reads it until it is through
  ucp_request_param_t param = self->parameters(flags);
  param.cb.send = &UcpRequest::on_sent;
  began(*worker, self,
        ucp_am_send_nbx(handle, UcpWorker::kMessageId, self->header_.span().data(),
                        self->header_.span().size(), payload.data(), payload.size(), &param));
}

void UcpRequest::receive(std::shared_ptr<UcpEp> ep, void* descriptor, std::span<std::byte> to,
                         Done done) {
  const auto worker = ep->worker();
  auto* self = new UcpRequest(std::move(ep), std::move(done));
  ucp_request_param_t param = self->parameters(0);
  param.cb.recv_am = &UcpRequest::on_received;
  began(*worker, self,
        ucp_am_recv_data_nbx(worker->handle(), descriptor, to.data(), to.size(), &param));
}

// Where UCX returned a request, `self` may be gone: a receive can be through by then.
void UcpRequest::began(UcpWorker& worker, UcpRequest* self, ucs_status_ptr_t request) {
  worker.wake();
  if (!UCS_PTR_IS_PTR(request)) self->back(UCS_PTR_STATUS(request));
}

void UcpRequest::on_sent(void* request, ucs_status_t status, void* self) {
  ucp_request_free(request);
  static_cast<UcpRequest*>(self)->back(status);
}

void UcpRequest::on_received(void* request, ucs_status_t status, size_t, void* self) {
  ucp_request_free(request);
  static_cast<UcpRequest*>(self)->back(status);
}

void UcpRequest::back(ucs_status_t status) {
  const std::unique_ptr<UcpRequest> self(this);
  // In this order: an endpoint is quiet after the last `done`.
  ep_->worker()->later([done = std::move(done_), status] { done(status); });
  ep_->request_back();
}

}  // namespace baton::ucx
