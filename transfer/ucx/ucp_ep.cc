#include "transfer/ucx/ucp_ep.h"

#include <array>
#include <sstream>

namespace baton::ucx {
namespace {

ucp_request_param_t force() {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  return param;
}

// The transport of each lane.
std::vector<std::string> lanes(ucp_ep_h ep) {
  std::vector<std::string> out;
#if UCP_API_VERSION >= UCP_VERSION(1, 14)
  std::array<ucp_transport_entry_t, 16> entries{};  // UCX has at most as many lanes
  ucp_ep_attr_t attributes{};
  attributes.field_mask = UCP_EP_ATTR_FIELD_TRANSPORTS;
  attributes.transports.entries = entries.data();
  attributes.transports.num_entries = entries.size();
  attributes.transports.entry_size = sizeof(ucp_transport_entry_t);
  if (ucp_ep_query(ep, &attributes) != UCS_OK) return out;
  for (size_t i = 0; i < attributes.transports.num_entries; ++i)
    out.emplace_back(entries[i].transport_name);
#else
  // "#   lane[0]:  0:tcp/lo.0 md[0]   -> md[0]/tcp/sysdev[255] am am_bw#0 keepalive wireup"
  std::istringstream text(printed([&](FILE* to) { ucp_ep_print_info(ep, to); }));
  for (std::string line; std::getline(text, line);) {
    const size_t lane = line.find("lane[");
    if (lane == std::string::npos) continue;
    const size_t index = line.find(':', lane);  // the lane's; then that of its transport
    const size_t name = index == std::string::npos ? index : line.find(':', index + 1);
    const size_t slash = line.find('/', lane);
    if (name < slash && slash != std::string::npos)
      out.push_back(line.substr(name + 1, slash - name - 1));
  }
#endif
  return out;
}

}  // namespace

UcpEp::UcpEp(std::shared_ptr<UcpWorker> worker, OnFailed on_failed)
    : worker_(std::move(worker)), on_failed_(std::move(on_failed)) {}

Result<std::shared_ptr<UcpEp>> UcpEp::connect(std::shared_ptr<UcpWorker> worker,
                                              const boost::asio::ip::tcp::endpoint& to,
                                              OnFailed on_failed) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
  params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
  params.sockaddr.addr = to.data();
  params.sockaddr.addrlen = static_cast<socklen_t>(to.size());
  return create(std::shared_ptr<UcpEp>(new UcpEp(std::move(worker), std::move(on_failed))), params);
}

Result<std::shared_ptr<UcpEp>> UcpEp::accept(std::shared_ptr<UcpWorker> worker,
                                             ucp_conn_request_h request, OnFailed on_failed) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST;
  params.conn_request = request;
  return create(std::shared_ptr<UcpEp>(new UcpEp(std::move(worker), std::move(on_failed))), params);
}

Result<std::shared_ptr<UcpEp>> UcpEp::create(std::shared_ptr<UcpEp> ep, ucp_ep_params_t params) {
  params.field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  // With NONE a dead peer's receive never completes.
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = &UcpEp::on_error;
  params.err_handler.arg = ep.get();
  const ucs_status_t status = ucp_ep_create(ep->worker_->handle(), &params, &ep->ep_);
  if (status != UCS_OK)
    return Status(
        Code::kUnavailable,
        std::string("ucx channel: the peer cannot be reached: ") + ucs_status_string(status),
        status);
  ep->worker_->wake();
  return ep;
}

UcpEp::~UcpEp() {
  if (ep_ == nullptr || closing_) return;
  const ucp_request_param_t param = force();
  const ucs_status_ptr_t request = ucp_ep_close_nbx(ep_, &param);
  if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);
  worker_->wake();
}

void UcpEp::on_error(void* self, ucp_ep_h, ucs_status_t status) {
  auto* ep = static_cast<UcpEp*>(self);
  if (ep->closing_) return;
  ep->worker_->later([weak = ep->weak_from_this(), status] {
    const auto ep = weak.lock();
    if (!ep || ep->closing_ || !ep->on_failed_) return;
    std::exchange(ep->on_failed_, nullptr)(
        Status(Code::kUnavailable,
               std::string("ucx channel: the peer is gone: ") + ucs_status_string(status), status));
  });
}

std::string UcpEp::transport() const {
  std::string names;
  for (const std::string& name : lanes(ep_)) {
    if (("+" + names + "+").find("+" + name + "+") == std::string::npos)
      names += (names.empty() ? "" : "+") + name;
  }
  return names.empty() ? "unknown" : names;
}

void UcpEp::close(std::function<void()> quiet) {
  BATON_CHECK(!closing_, "an endpoint is closed once");
  closing_ = true;
  quiet_ = std::move(quiet);
  on_failed_ = nullptr;
  ucp_request_param_t param = force();
  param.op_attr_mask |= UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  // UCX keeps the endpoint until it has closed it.
  auto* self = new std::shared_ptr<UcpEp>(shared_from_this());
  param.user_data = self;
  param.cb.send = [](void* request, ucs_status_t, void* user_data) {
    const std::unique_ptr<std::shared_ptr<UcpEp>> self(
        static_cast<std::shared_ptr<UcpEp>*>(user_data));
    ucp_request_free(request);
    (*self)->closed();
  };
  const ucs_status_ptr_t request = ucp_ep_close_nbx(ep_, &param);
  worker_->wake();
  if (UCS_PTR_IS_PTR(request)) return;
  const std::unique_ptr<std::shared_ptr<UcpEp>> at_once(self);
  closed();
}

void UcpEp::closed() {
  closed_ = true;
  tell_if_quiet();
}

void UcpEp::request_back() {
  --requests_;
  tell_if_quiet();
}

void UcpEp::tell_if_quiet() {
  if (is_quiet() && quiet_) worker_->later(std::exchange(quiet_, nullptr));
}

}  // namespace baton::ucx
