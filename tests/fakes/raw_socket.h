// A blocking loopback socket for tests that must see exact bytes. Confined to one thread.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include "transfer/base/address.h"
#include "transfer/base/unique_fd.h"

namespace baton::test {

class RawSocket {
 public:
  explicit RawSocket(const HostPort& to, int receive_buffer = 0)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer > 0) {
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(to.port);
    ::inet_pton(AF_INET, to.host.c_str(), &address.sin_addr);
    connected_ = ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }

  bool connected() const { return connected_; }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Everything up to and with `end`; what came so far where the connection ends or 20 s pass.
  std::string read_until(std::string_view end) {
    while (received_.find(end) == received_.npos && read_some()) {
    }
    const size_t at = received_.find(end);
    return take(at == received_.npos ? received_.size() : at + end.size());
  }
  // Everything until the other side closes.
  std::string read_to_end() {
    while (read_some()) {
    }
    return take(received_.size());
  }
  // One response with a Content-Length.
  std::string read_response() {
    std::string head = read_until("\r\n\r\n");
    const size_t at = head.find("Content-Length: ");
    const size_t length = at == head.npos ? 0 : std::stoul(head.substr(at + 16));
    while (received_.size() < length && read_some()) {
    }
    return head + take(std::min(length, received_.size()));
  }
  void close() { fd_.reset(); }

 private:
  bool read_some() {
    pollfd waiting{fd_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, 20000) <= 0) {
      ADD_FAILURE() << "nothing came for 20 s; so far: " << received_;
      return false;
    }
    char buffer[16384];
    const ssize_t n = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (n > 0) received_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }
  std::string take(size_t n) {
    std::string out = received_.substr(0, n);
    received_.erase(0, n);
    return out;
  }

  UniqueFd fd_;
  bool connected_ = false;
  std::string received_;
};

}  // namespace baton::test
