#include "perf/reference_ucx.h"

#include <sched.h>
#include <ucp/api/ucp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/base/ids.h"

namespace baton::bench {
namespace {

constexpr size_t kMessageBytes = 4u << 20;
constexpr size_t kMessagesInFlight = 4;
constexpr unsigned kMessageId = 0;
constexpr Duration kUcxPatience = std::chrono::seconds(60);

Status failed(const char* what, ucs_status_t status) {
  return Status(Code::kInternal, std::string("UCX: ") + what + ": " + ucs_status_string(status),
                status);
}

Result<std::vector<std::byte>> from_hex(const std::string& text) {
  std::vector<std::byte> out(text.size() / 2);
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  if (text.size() % 2 != 0 || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    return Status(Code::kProtocol, "a UCX address that is no hexadecimal number");
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::byte>(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
  return out;
}

class UcpStream final : public UcxStream {
 public:
  ~UcpStream() override {
    if (endpoint_ != nullptr) {
      ucp_request_param_t param{};
      param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
      param.flags = UCP_EP_CLOSE_FLAG_FORCE;
      void* request = ucp_ep_close_nbx(endpoint_, &param);
      (void)wait_for(request);
    }
    if (worker_ != nullptr) ucp_worker_destroy(worker_);
    if (context_ != nullptr) ucp_cleanup(context_);
  }

  // As the channel sets UCX up over TCP: without the larger pieces it runs at half of that.
  Status start() {
    ucp_config_t* config = nullptr;
    if (const auto status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK)
      return failed("ucp_config_read", status);
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_AM;
    ucs_status_t status = UCS_OK;
    for (const auto& [name, value] :
         {std::pair("TLS", "tcp"), {"TCP_TX_SEG_SIZE", "64K"}, {"TCP_RX_SEG_SIZE", "128K"}})
      if (status == UCS_OK) status = ucp_config_modify(config, name, value);
    if (status == UCS_OK) status = ucp_init(&params, config, &context_);
    ucp_config_release(config);
    if (status != UCS_OK) return Status(Code::kUnavailable, failed("ucp_init", status).message());
    ucp_worker_params_t worker{};
    worker.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    worker.thread_mode = UCS_THREAD_MODE_SINGLE;
    if (status = ucp_worker_create(context_, &worker, &worker_); status != UCS_OK)
      return failed("ucp_worker_create", status);
    ucp_am_handler_param_t handler{};
    handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                         UCP_AM_HANDLER_PARAM_FIELD_ARG;
    handler.id = kMessageId;
    handler.cb = on_message;
    handler.arg = this;
    if (status = ucp_worker_set_am_recv_handler(worker_, &handler); status != UCS_OK)
      return failed("ucp_worker_set_am_recv_handler", status);
    ucp_address_t* address = nullptr;
    size_t bytes = 0;
    if (status = ucp_worker_get_address(worker_, &address, &bytes); status != UCS_OK)
      return failed("ucp_worker_get_address", status);
    address_ = to_hex(address, bytes);
    ucp_worker_release_address(worker_, address);
    return ok_status();
  }

  std::string address() const override { return address_; }

  Status connect(const std::string& address, UcxErrors errors) override {
    BATON_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, from_hex(address));
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
    params.address = reinterpret_cast<const ucp_address_t*>(bytes.data());
    params.err_mode =
        errors == UcxErrors::kPeer ? UCP_ERR_HANDLING_MODE_PEER : UCP_ERR_HANDLING_MODE_NONE;
    const ucs_status_t status = ucp_ep_create(worker_, &params, &endpoint_);
    return status == UCS_OK ? ok_status() : failed("ucp_ep_create", status);
  }

  Status send_all(std::span<const std::byte> bytes) override {
    std::vector<uint64_t> offsets;  // the messages' headers, constant until they are sent
    for (uint64_t at = 0; at < bytes.size(); at += kMessageBytes) offsets.push_back(at);
    std::vector<void*> requests;
    Status status;
    for (const uint64_t& offset : offsets) {
      ucp_request_param_t param{};
      const size_t size = std::min(kMessageBytes, bytes.size() - offset);
      void* request = ucp_am_send_nbx(endpoint_, kMessageId, &offset, sizeof offset,
                                      bytes.data() + offset, size, &param);
      requests.push_back(request);
      if (requests.size() > kMessagesInFlight && status.ok())
        status =
            wait_for(std::exchange(requests[requests.size() - 1 - kMessagesInFlight], nullptr));
    }
    for (void* request : requests)
      if (const Status sent = wait_for(request); status.ok()) status = sent;
    return status;
  }

  Status work_until(const std::function<bool()>& condition) override {
    return progress_until(condition);
  }

  Result<TimePoint> receive_all(std::span<std::byte> bytes) override {
    into_ = bytes;
    missing_ = bytes.size();
    status_ = UCS_OK;
    const Status done = progress_until([this] { return missing_ == 0 || status_ != UCS_OK; });
    const TimePoint landed_at = now();
    into_ = {};
    BATON_RETURN_IF_ERROR(done);
    if (status_ != UCS_OK) return failed("receiving", status_);
    // A rendezvous' sender waits for our last word, which may still be in this worker.
    ucp_request_param_t param{};
    BATON_RETURN_IF_ERROR(wait_for(ucp_worker_flush_nbx(worker_, &param)));
    return landed_at;
  }

 private:
  template <typename Condition>
  Status progress_until(Condition&& condition) {
    const TimePoint end = now() + kUcxPatience;
    for (uint64_t idle = 0; !condition();) {
      if (ucp_worker_progress(worker_) != 0) {
        idle = 0;
      } else if (++idle % 1000 == 0) {
        ::sched_yield();
        if (now() > end) return Status(Code::kDeadlineExceeded, "UCX: nothing moves");
      }
    }
    return ok_status();
  }

  Status wait_for(void* request) {
    if (request == nullptr) return ok_status();
    if (UCS_PTR_IS_ERR(request)) return failed("a request", UCS_PTR_STATUS(request));
    const Status done =
        progress_until([&] { return ucp_request_check_status(request) != UCS_INPROGRESS; });
    const ucs_status_t status = ucp_request_check_status(request);
    ucp_request_free(request);
    if (!done.ok()) return done;
    return status == UCS_OK ? ok_status() : failed("a request", status);
  }

  // Eager bytes are copied to their place, a rendezvous lands there.
  static ucs_status_t on_message(void* arg, const void* header, size_t header_bytes, void* data,
                                 size_t bytes, const ucp_am_recv_param_t* param) {
    auto& self = *static_cast<UcpStream*>(arg);
    uint64_t offset = 0;
    if (header_bytes != sizeof offset) return UCS_OK;
    std::memcpy(&offset, header, sizeof offset);
    if (bytes > self.into_.size() || offset > self.into_.size() - bytes) {
      self.status_ = UCS_ERR_MESSAGE_TRUNCATED;
      return UCS_OK;
    }
    std::byte* to = self.into_.data() + offset;
    if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0) {
      std::memcpy(to, data, bytes);
      self.missing_ -= bytes;
      return UCS_OK;
    }
    ucp_request_param_t receive{};
    receive.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    receive.cb.recv_am = [](void* request, ucs_status_t status, size_t landed, void* user) {
      static_cast<UcpStream*>(user)->landed(status, landed);
      ucp_request_free(request);
    };
    receive.user_data = &self;
    void* request = ucp_am_recv_data_nbx(self.worker_, data, to, bytes, &receive);
    if (request == nullptr) self.landed(UCS_OK, bytes);
    if (UCS_PTR_IS_ERR(request)) self.landed(UCS_PTR_STATUS(request), 0);
    return UCS_INPROGRESS;
  }

  void landed(ucs_status_t status, size_t bytes) {
    if (status != UCS_OK) status_ = status;
    missing_ -= bytes;
  }

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
  std::string address_;
  std::span<std::byte> into_;
  size_t missing_ = 0;
  ucs_status_t status_ = UCS_OK;
};

}  // namespace

Result<std::unique_ptr<UcxStream>> UcxStream::create() {
  auto stream = std::make_unique<UcpStream>();
  BATON_RETURN_IF_ERROR(stream->start());
  return std::unique_ptr<UcxStream>(std::move(stream));
}

}  // namespace baton::bench
