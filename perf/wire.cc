#include "perf/wire.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace baton::bench {
namespace {

constexpr size_t kMaxMessage = 64u << 20;

Status wait_for(int fd, short events, TimePoint deadline) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now());
    pollfd poll{.fd = fd, .events = events, .revents = 0};
    const int ready = ::poll(&poll, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (ready > 0) return ok_status();
    if (ready < 0 && errno != EINTR) return Status::from_errno("poll", errno);
    if (now() >= deadline)
      return Status(Code::kDeadlineExceeded, "the other process does not answer");
  }
}

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> look_up(const HostPort& address, bool passive) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (error != 0)
    return Status(Code::kUnavailable, address.to_string() + ": " + ::gai_strerror(error));
  return AddressList(found, &::freeaddrinfo);
}

void no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

Status wait_readable(int fd, TimePoint deadline) { return wait_for(fd, POLLIN, deadline); }
Status wait_writable(int fd, TimePoint deadline) { return wait_for(fd, POLLOUT, deadline); }

Status Wire::send(const Json& message) {
  const std::string line = message.dump() + "\n";
  for (size_t at = 0; at < line.size();) {
    const ssize_t sent = ::send(fd_.get(), line.data() + at, line.size() - at, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return Status::from_errno("the other process has gone", errno);
    at += static_cast<size_t>(sent);
  }
  return ok_status();
}

bool Wire::readable() const {
  pollfd waiting{fd_.get(), POLLIN, 0};
  return !unread_.empty() || ::poll(&waiting, 1, 0) != 0;
}

Result<Json> Wire::receive(Duration deadline) {
  const TimePoint end = now() + deadline;
  for (size_t searched = 0;;) {
    const size_t newline = unread_.find('\n', searched);
    if (newline != std::string::npos) {
      Json message = Json::parse(unread_.substr(0, newline), nullptr, false);
      unread_.erase(0, newline + 1);
      if (message.is_object()) return message;
      return Status(Code::kProtocol, "the other process sent a line that is no JSON object");
    }
    searched = unread_.size();
    if (unread_.size() > kMaxMessage)
      return Status(Code::kProtocol, "the other process sent a line without an end");
    BATON_RETURN_IF_ERROR(wait_readable(fd_.get(), end));
    char buffer[65536];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::from_errno("the other process", errno);
    if (got == 0) return Status(Code::kUnavailable, "the other process has gone");
    unread_.append(buffer, static_cast<size_t>(got));
  }
}

Result<Json> Wire::call(const Json& request, Duration deadline) {
  BATON_RETURN_IF_ERROR(send(request));
  BATON_ASSIGN_OR_RETURN(Json answer, receive(deadline));
  BATON_RETURN_IF_ERROR(error_of(answer));
  return answer;
}

Json error_answer(const Status& status) {
  return {{"error", status.message()}, {"code", static_cast<int>(status.code())}};
}

Status error_of(const Json& answer) {
  if (!answer.contains("error")) return ok_status();
  const int code = answer.value("code", static_cast<int>(Code::kInternal));
  const bool known =
      code > static_cast<int>(Code::kOk) && code <= static_cast<int>(Code::kInternal);
  return Status(known ? static_cast<Code>(code) : Code::kInternal,
                answer.value("error", std::string("without a reason")));
}

Result<UniqueFd> dial(const HostPort& address, Duration deadline) {
  const TimePoint end = now() + deadline;
  BATON_ASSIGN_OR_RETURN(const AddressList list, look_up(address, false));
  Status why(Code::kUnavailable, "no address");
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    UniqueFd fd(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return Status::from_errno("socket", errno);
    int error = ::connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      why = wait_writable(fd.get(), end);
      if (!why.ok()) continue;
      socklen_t size = sizeof error;
      ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0) {
      ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
      no_delay(fd.get());
      return fd;
    }
    why = Status::from_errno("connect", error);
  }
  return Status(Code::kUnavailable, address.to_string() + ": " + why.message());
}

Result<std::pair<UniqueFd, HostPort>> listen_at(const HostPort& address) {
  BATON_ASSIGN_OR_RETURN(const AddressList list, look_up(address, true));
  UniqueFd fd(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (fd.valid()) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!fd.valid() || ::bind(fd.get(), list->ai_addr, list->ai_addrlen) != 0 ||
      ::listen(fd.get(), 16) != 0)
    return Status::from_errno("listening at " + address.to_string(), errno);
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  char port[16] = "0";
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&bound), size, nullptr, 0, port, sizeof port,
                    NI_NUMERICSERV) != 0)
    return Status(Code::kInternal, "the bound port of " + address.to_string() + " is not known");
  HostPort at{address.host, static_cast<uint16_t>(std::stoul(port))};
  return std::pair(std::move(fd), std::move(at));
}

Result<UniqueFd> accept_from(int listener, Duration deadline) {
  BATON_RETURN_IF_ERROR(wait_readable(listener, now() + deadline));
  UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid()) return Status::from_errno("accept", errno);
  no_delay(fd.get());
  return fd;
}

}  // namespace baton::bench
