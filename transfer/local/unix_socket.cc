#include "transfer/local/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace baton::local {
namespace {

constexpr int kKind = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

struct Address {
  sockaddr_un un{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&un); }
};

Result<Address> abstract_address(const std::string& name) {
  Address address;
  if (name.empty() || name.size() >= sizeof address.un.sun_path) {
    return Status(Code::kUnavailable,
                  "local channel: '" + name + "' is not the name of an abstract socket");
  }
  address.un.sun_family = AF_UNIX;
  std::memcpy(address.un.sun_path + 1, name.data(), name.size());
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

}  // namespace

Result<UniqueFd> listen_abstract(const std::string& name) {
  BATON_ASSIGN_OR_RETURN(const Address address, abstract_address(name));
  UniqueFd fd(::socket(AF_UNIX, kKind, 0));
  if (!fd.valid() || ::bind(fd.get(), address.get(), address.size) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return Status::from_errno("local channel: listen at " + name, errno);
  }
  return fd;
}

Result<UniqueFd> connect_abstract(const std::string& name) {
  BATON_ASSIGN_OR_RETURN(const Address address, abstract_address(name));
  UniqueFd fd(::socket(AF_UNIX, kKind, 0));
  if (!fd.valid()) return Status::from_errno("local channel: socket", errno);
  if (::connect(fd.get(), address.get(), address.size) != 0) {
    const int error = errno;
    return Status(Code::kUnavailable,
                  "local channel: connect to " + name + ": " + std::strerror(error), error);
  }
  return fd;
}

Status check_same_user(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return Status::from_errno("local channel: SO_PEERCRED", errno);
  }
  if (peer.uid == ::geteuid()) return ok_status();
  return Status(Code::kRefused, "local channel: user is " + std::to_string(::geteuid()) +
                                    " here and " + std::to_string(peer.uid) + " there");
}

Status send_greeting(int fd, const Greeting& greeting, std::span<const int> descriptors) {
  BATON_CHECK(descriptors.size() <= kArenas, "a greeting carries the arenas' descriptors");
  GreetingBytes bytes = encode(greeting);
  iovec piece{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kArenas)] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  if (sent < 0) {
    return Status(Code::kUnavailable,
                  std::string("local channel: greeting: ") + std::strerror(errno), errno);
  }
  if (static_cast<size_t>(sent) != bytes.size()) {
    return Status(Code::kUnavailable, "local channel: the greeting was not taken whole");
  }
  return ok_status();
}

Result<bool> GreetingReader::read(int fd) {
  while (have_ < bytes_.size()) {
    iovec piece{bytes_.data() + have_, bytes_.size() - have_};
    // Room for one more than allowed, so that a surplus is seen.
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * (kArenas + 1))];
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return false;
    if (got <= 0) {
      return Status(Code::kUnavailable, "local channel: closed before its greeting",
                    got < 0 ? errno : 0);
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int descriptor;
        std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
        descriptors_.emplace_back(descriptor);
      }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0 || descriptors_.size() > kArenas) {
      return Status(Code::kProtocol, "local channel: more descriptors than arenas");
    }
    have_ += static_cast<size_t>(got);
  }
  return true;
}

Result<Greeting> GreetingReader::take(std::vector<UniqueFd>& descriptors) {
  BATON_ASSIGN_OR_RETURN(Greeting greeting, decode_greeting(bytes_));
  size_t expected = 0;
  for (const Geometry& arena : greeting.arenas) expected += arena.arena_bytes != 0;
  if (descriptors_.size() != expected) {
    return Status(Code::kProtocol, "local channel: " + std::to_string(descriptors_.size()) +
                                       " descriptors for " + std::to_string(expected) + " arenas");
  }
  descriptors = std::move(descriptors_);
  return greeting;
}

}  // namespace baton::local
