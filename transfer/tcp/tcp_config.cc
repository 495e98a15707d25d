#include "transfer/tcp/tcp_config.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>

#include "transfer/base/log.h"
#include "transfer/tcp/records.h"

namespace baton::tcp {

Status validate(const TcpConfig& config) {
  if (config.lanes == 0 || config.lanes > kMaxLanes)
    return Status(Code::kInvalidArgument, "tcp lanes is " + std::to_string(config.lanes) +
                                              ": expected 1 to " + std::to_string(kMaxLanes));
  if (config.queued_segments == 0)
    return Status(Code::kInvalidArgument, "tcp queued_segments is 0: expected at least 1");
  return ok_status();
}

void set_lane_options(int socket, const TcpConfig& config, bool loopback) {
  const auto set = [&](int option, const void* value, socklen_t bytes) {
    return ::setsockopt(socket, IPPROTO_TCP, option, value, bytes) == 0;
  };
  const int on = 1;
  set(TCP_NODELAY, &on, sizeof on);
  if (config.unsent_bytes != 0)
    set(TCP_NOTSENT_LOWAT, &config.unsent_bytes, sizeof config.unsent_bytes);
  if (config.receive_window_bytes != 0)
    set(TCP_WINDOW_CLAMP, &config.receive_window_bytes, sizeof config.receive_window_bytes);
  const std::string congestion =
      config.congestion.empty() && loopback ? std::string("cubic") : config.congestion;
  if (congestion.empty()) return;
  if (!set(TCP_CONGESTION, congestion.data(), static_cast<socklen_t>(congestion.size())) &&
      !config.congestion.empty())
    log::warn("congestion control is the system's own: '{}' cannot be set, {}", congestion,
              std::strerror(errno));
}

}  // namespace baton::tcp
