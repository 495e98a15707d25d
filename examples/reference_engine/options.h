// The command line of reference_engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "examples/reference_engine/kv_transfer.h"
#include "transfer/base/address.h"
#include "transfer/base/clock.h"
#include "transfer/channels.h"
#include "transfer/control/tls.h"

namespace baton::reference {

struct Options {
  std::optional<TransferRole> role;  // unset: both
  std::string model;                 // "FILE.gguf" or "random:…"
  std::string model_name;            // empty: the file's own
  HostPort listen{"127.0.0.1", 8000};
  std::optional<HostPort> node;  // unset: no node
  std::optional<HostPort> node_http;
  std::string advertise;  // what peers dial: a host, or host:port; empty: as bound
  control::TlsFiles tls;  // of control connections
  bool insecure = false;  // listen beyond loopback without a token
  uint32_t block_tokens = 16;
  uint32_t kv_blocks = 512;
  uint32_t threads = 1;
  uint32_t prefill_chunk = 128;  // prompt tokens a step
  uint32_t max_batch = 16;
  uint32_t max_queue = 256;
  uint64_t seed = 1;  // of the order of free KV blocks
  bool refuse_when_full = true;
  Duration budget = std::chrono::seconds(600);

  uint32_t chunk_tokens = 256;
  uint64_t host_tier_bytes = 256u << 20;
  uint64_t transit_bytes = 32u << 20;
  uint64_t window_bytes = 64u << 20;
  ChannelChoice channel = ChannelChoice::kAuto;
  uint16_t tcp_port = 0;
  uint16_t tcp_lanes = 2;
  std::string tcp_congestion;
  bool transient = false;
  bool retain_received = false;
  bool huge_pages = false;
  Duration heartbeat = std::chrono::milliseconds(200);
  Duration first_contact = std::chrono::seconds(2);
  Duration record = std::chrono::seconds(30);
  Duration accept = std::chrono::seconds(5);
  Duration progress = std::chrono::seconds(2);
};

// The options, or the exit code that the program should end with at once (what is wrong has been
// said on stderr).
std::variant<Options, int> parse_options(int argc, char** argv);

// "268435456", "256MiB", "1GiB", "64KiB". kInvalidArgument naming the text.
Result<uint64_t> parse_bytes(const std::string& text);

}  // namespace baton::reference
