// The command line of reference_engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "connectors/node_options.h"
#include "examples/reference_engine/kv_transfer.h"
#include "transfer/base/address.h"
#include "transfer/base/clock.h"

namespace baton::reference {

struct Options {
  std::optional<TransferRole> role;  // unset: both
  std::string model;                 // "FILE.gguf" or "random:…"
  std::string model_name;            // empty: the file's own
  HostPort listen{"127.0.0.1", 8000};
  std::optional<HostPort> node;  // unset: no node
  NodeOptions node_options;
  std::optional<HostPort> store;  // of a baton-store; unset: none
  uint32_t block_tokens = 16;
  uint32_t kv_blocks = 512;
  uint32_t threads = 1;
  uint32_t prefill_chunk = 128;  // prompt tokens a step
  uint32_t max_batch = 16;
  uint32_t max_queue = 256;
  uint64_t seed = 1;  // of the order of free KV blocks
  bool refuse_when_full = true;
  bool reuse = false;
  Duration budget = std::chrono::seconds(600);

  uint32_t chunk_tokens = 256;
  uint64_t host_tier_bytes = 256u << 20;
  uint64_t transit_bytes = 32u << 20;
  uint64_t window_bytes = 64u << 20;
  bool transient = false;
  bool retain_received = false;
  Duration first_contact = std::chrono::seconds(2);
  Duration record = std::chrono::seconds(30);
  Duration accept = std::chrono::seconds(5);
};

// The options, or the exit code that the program should end with at once (what is wrong has been
// said on stderr).
std::variant<Options, int> parse_options(int argc, char** argv);

}  // namespace baton::reference
