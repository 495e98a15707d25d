// UCX's context: which transports and devices there are, and how they are set.
//
// Thread safety: constant after creation.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transfer/base/status.h"
#include "transfer/ucx/ucx_config.h"

namespace baton::ucx {

// kInternal, with UCX's code and text.
Status ucx_error(const std::string& what, ucs_status_t status);

class UcpContext {
 public:
  // Errors: kUnavailable where UCX has none of the transports or devices asked for.
  static Result<std::shared_ptr<UcpContext>> create(const UcxConfig& config);
  ~UcpContext() { ucp_cleanup(context_); }
  UcpContext(const UcpContext&) = delete;
  UcpContext& operator=(const UcpContext&) = delete;

  ucp_context_h handle() const { return context_; }  // borrowed
  // Those that UCX found and may use, as it names them.
  const std::vector<std::string>& transports() const { return transports_; }

 private:
  explicit UcpContext(ucp_context_h context);

  const ucp_context_h context_;
  std::vector<std::string> transports_;
};

// What `print` writes: UCX describes itself to a FILE* only.
std::string printed(const std::function<void(FILE*)>& print);

bool is_rdma(const std::string& transport);

}  // namespace baton::ucx
