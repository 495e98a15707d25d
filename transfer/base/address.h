// A TCP address as users write it: "host:port", "[v6]:port".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transfer/base/status.h"

namespace baton {

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;
  bool operator==(const HostPort&) const = default;

  // Errors: kInvalidArgument, naming `text` and what was expected. Port 0 is allowed ("any free").
  static Result<HostPort> parse(std::string_view text);
  std::string to_string() const;
  // Whether the host is a loopback address or "localhost".
  bool is_loopback() const;
};

// The network interface of this host that has this address ("eth0"); nothing where none has, or
// where `host` is a name.
std::optional<std::string> interface_of(const std::string& host);

// "host:port[,host:port…]": a node's address, one per rank.
Result<std::vector<HostPort>> parse_node_address(std::string_view text);

}  // namespace baton
