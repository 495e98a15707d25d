#include "transfer/base/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <charconv>
#include <memory>

namespace baton {

Result<HostPort> HostPort::parse(std::string_view text) {
  const auto bad = [&](const char* expected) {
    return Status(Code::kInvalidArgument,
                  "address is '" + std::string(text.substr(0, 256)) + "': expected " + expected);
  };
  HostPort out;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos || close + 1 >= text.size() || text[close + 1] != ':')
      return bad("[v6 address]:port");
    out.host = text.substr(1, close - 1);
    port = text.substr(close + 2);
  } else {
    const size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0) return bad("host:port");
    out.host = text.substr(0, colon);
    if (out.host.find(':') != std::string::npos) return bad("brackets around a v6 address");
    port = text.substr(colon + 1);
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (error != std::errc() || end != port.data() + port.size() || out.host.empty())
    return bad("host:port with a port from 0 to 65535");
  return out;
}

std::string HostPort::to_string() const {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool HostPort::is_loopback() const {
  in_addr v4{};
  // By the address: "127.example.org" may be anywhere.
  const bool numeric = ::inet_pton(AF_INET, host.c_str(), &v4) == 1;
  return host == "localhost" || host == "::1" || (numeric && ntohl(v4.s_addr) >> 24 == 127);
}

std::optional<std::string> interface_of(const std::string& host) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return std::nullopt;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, ::freeifaddrs);
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr) continue;
    const bool v6 = each->ifa_addr->sa_family == AF_INET6;
    if (!v6 && each->ifa_addr->sa_family != AF_INET) continue;
    const void* address =
        v6 ? static_cast<const void*>(
                 &reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr)
           : &reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr;
    char text[INET6_ADDRSTRLEN];
    if (::inet_ntop(each->ifa_addr->sa_family, address, text, sizeof text) != nullptr &&
        host == text)
      return each->ifa_name;
  }
  return std::nullopt;
}

Result<std::vector<HostPort>> parse_node_address(std::string_view text) {
  std::vector<HostPort> ranks;
  while (true) {
    const size_t comma = text.find(',');
    BATON_ASSIGN_OR_RETURN(HostPort rank, HostPort::parse(text.substr(0, comma)));
    ranks.push_back(std::move(rank));
    if (comma == std::string_view::npos) return ranks;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace baton
