// A node's options on the command line of a program that has one: where it listens, who is let in,
// how bytes move, where chunks are kept.
//
// Thread safety: externally synchronised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "transfer/base/cli.h"
#include "transfer/node.h"

namespace baton {

// As they were written.
struct NodeOptions {
  std::string node;       // empty: not given
  std::string node_http;  // empty: none
  std::string advertise;
  control::TlsFiles tls;
  bool insecure = false;
  std::string channel = "auto";
  uint16_t tcp_port = 0;
  uint16_t tcp_lanes = 2;
  std::string tcp_congestion;
  bool huge_pages = false;
  std::string tier_policy = scheduler::eviction_name(scheduler::kDefaultEviction);
  std::string tenant_quota = "0";
  uint64_t heartbeat_ms = 200;
  uint64_t progress_ms = 2000;
  std::vector<std::string> nvme;
  std::string s3;
  std::vector<std::string> peers;
  uint64_t load_ms = 5000;
};

// All of them; parsing writes to `options`, which stays until then.
void add_node_options(const Command& command, NodeOptions& options);

// Into the node's configuration. kInvalidArgument naming the flag, the value and what was expected.
Status apply(const NodeOptions& options, NodeConfig& config);

// For a flag whose value is an address.
Status read_address(const char* flag, const std::string& text, HostPort& address);
// For a flag whose value is a size.
Status read_bytes(const char* flag, const std::string& text, uint64_t& bytes);

}  // namespace baton
