// A node: one process's arenas, host tier, channels, control endpoint and HTTP endpoint, and the
// progress thread that runs them.
//
// Engines do not use it directly: connectors/prefill_session.h and decode_session.h do.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/kv_layout.h"
#include "scheduler/eviction_policy.h"
#include "transfer/base/address.h"
#include "transfer/base/metrics.h"
#include "transfer/base/status.h"
#include "transfer/channels.h"
#include "transfer/chunk_key.h"
#include "transfer/control/control_plane.h"
#include "transfer/copier.h"
#include "transfer/local/local_endpoint.h"
#include "transfer/protocol/receiver_handoff.h"
#include "transfer/protocol/sender_handoff.h"
#include "transfer/tcp/tcp_config.h"
#include "transfer/tiers/nvme/nvme_config.h"
#include "transfer/tiers/s3/s3_config.h"
#include "transfer/ucx/ucx_config.h"

namespace baton {

class Channel;
class ChannelEvents;
class Tier;
class Timeline;

// The engine's KV memory: where each layer's blocks lie. The memory is the engine's and outlives
// the node.
//
// In a GPU's memory the blocks are read and written by kernels on streams of the node's own, which
// wait for no stream of the engine's. So layer_ready() is called when the GPU has written the layer
// (an event of the engine's has passed), and accept() when nothing that the engine has enqueued
// touches the blocks any more.
struct KvMemory {
  KvLayout layout;                     // the same for every layer
  std::vector<std::byte*> layer_base;  // one a layer
  uint32_t blocks = 0;                 // valid block ids are [0, blocks)
  // The GPU (CUDA's number) whose memory the blocks lie in; none: host memory. No channel reads or
  // writes such blocks itself, also where it could (Channel::sends_blocks): see cuda/cuda_copier.h.
  std::optional<uint32_t> cuda_device;
};

enum class SendMode : uint8_t {
  kRetained,   // gather into slots that live on: they serve retries and FETCH
  kTransient,  // let go of the bytes once they are acknowledged
};

// The tiers below the host's: what a load may take, and how far they may be behind.
// The process's exit code where a device hangs that may still write to memory while its node ends
// (EX_SOFTWARE): nothing else takes its writers off.
inline constexpr int kHungDeviceExit = 70;

struct TiersConfig {
  // Files or block devices (tiers/nvme/nvme_config.h); none: no such tier. Of this node alone.
  std::vector<NvmeDevice> nvme;
  // A bucket that many nodes share (tiers/s3/s3_config.h); none: no such tier.
  std::optional<s3::S3Config> s3;
  // A node without an engine on this host or near (`baton store`), which is given every chunk that
  // becomes whole here, and asked for what is not.
  std::optional<HostPort> store;
  // Other nodes that are asked.
  std::vector<HostPort> peers;
  // Of a chunk that a peer offers to a store, until it has come.
  Duration keep_deadline = std::chrono::seconds(30);
  // From when the engine has given its blocks; what is not loaded by then is computed.
  Duration load_deadline = std::chrono::seconds(5);
  // Of asking tiers that must ask (S3) what they have; at most half of
  // receiver.first_contact_deadline is taken for it.
  Duration find_deadline = std::chrono::seconds(1);
  // When the node stops: how long a tier's device is waited for, which may still write to slots,
  // until the process ends at once (kHungDeviceExit).
  Duration hung_after = std::chrono::seconds(20);
  // Of the retained arena: what one tier's stores may keep from being used again.
  double store_share = 0.25;
};

// Test builds put a decorator around what the node makes; products leave these empty.
struct NodeSeams {
  std::function<std::unique_ptr<Copier>(std::unique_ptr<Copier>)> copier;
  // Stands in for a GPU and its copier where KvMemory has a cuda_device.
  std::function<std::unique_ptr<Copier>(boost::asio::io_context&)> device_copier;
  std::function<std::unique_ptr<Channel>(std::unique_ptr<Channel>)> channel;
  // Stands between a channel and the node; called once a channel.
  std::function<std::unique_ptr<ChannelEvents>(ChannelEvents&)> channel_events;
  // Further tiers below the host's, nearest first.
  std::function<std::vector<std::unique_ptr<Tier>>(boost::asio::io_context&)> tiers;
};

struct NodeConfig {
  HostPort listen{"127.0.0.1", 0};  // control connections; port 0: any free
  std::optional<HostPort> http;     // /health, /metrics, /debug/handoffs, …
  Fingerprint fingerprint;
  uint32_t chunk_tokens = 256;  // a multiple of the layout's block_tokens
  KvMemory kv;
  // Without an engine: keeps in its tiers whatever its peers offer, of any model. `fingerprint`,
  // `chunk_tokens`, `kv` and `mode` say nothing then, and there are no sessions.
  bool store = false;
  uint64_t chunk_bytes = 0;  // of a store's slots; 0: as large as the first peer's chunks
  SendMode mode = SendMode::kRetained;
  size_t retained_bytes = 256u << 20;  // arena of the host tier; 0: transient only
  // Which retained chunks leave first, and how many of these bytes a tenant (a salt; all without
  // one are one) may have; 0: no quota.
  scheduler::EvictionKind tier_policy = scheduler::kDefaultEviction;
  size_t tenant_bytes = 0;
  size_t transit_bytes = 32u << 20;  // arena of transient sends
  bool huge_pages = false;
  TiersConfig tiers;
  bool retain_received = false;       // keep received chunks too: one more, counted, copy
  uint64_t window_bytes = 64u << 20;  // unacknowledged bytes a handoff is guaranteed
  uint32_t max_handoffs = 4096;       // live, both roles together
  uint32_t max_records = 4096;        // of peers' offers nobody has claimed yet
  Duration tombstone_ttl = std::chrono::seconds(60);
  // Of chunks prefilled for nobody yet, until a FETCH.
  Duration lease = std::chrono::seconds(60);
  // While a handoff is live: how long the progress thread looks again (with sched_yield) after
  // something happened before it sleeps. Being woken costs some 30 µs.
  Duration spin = std::chrono::microseconds(50);
  control::ControlConfig control;  // its `listen` is taken from above
  ChannelChoice channel = ChannelChoice::kAuto;
  local::LocalConfig local;
  tcp::TcpConfig tcp;
  ucx::UcxConfig ucx;  // `devices` empty: the loopback where `listen` is; `spin` as above
  protocol::SenderConfig sender;
  protocol::ReceiverConfig receiver;
  Token token;            // that peers and the HTTP endpoint ask for
  bool insecure = false;  // listen beyond loopback without one
  NodeSeams seams;
  Timeline* timeline = nullptr;  // records what the handoffs do (timeline.h); outlives the node
};

class Node {
 public:
  // Reserves memory, listens and starts the progress thread. Errors name the option.
  static Result<std::unique_ptr<Node>> create(NodeConfig config);
  // Ends every handoff (failed; the peers hear it, or see the connection end), waits until nothing
  // writes to the engine's blocks and this process reads none of them, stops the thread. Sessions
  // must be gone before. A GPU that hangs would touch them for good: then the process ends
  // (cuda/cuda_copier.h).
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  HostPort address() const;                      // control, bound
  const std::string& advertised() const;         // what peers dial
  std::optional<HostPort> http_address() const;  // bound
  const NodeConfig& config() const;
  // For the engine's own counters too: one /metrics a process. Thread-safe.
  Metrics& metrics();
  // Nobody finds any more what the node keeps, in its host tier and those of its own below: for an
  // engine whose KV means something else from now on, under the same fingerprint. Until the node is
  // made anew it keeps in memory alone, asks no store, peer or S3, and is a miss to whoever asks it
  // (but for the FETCH of a handoff that its engine has just prefilled). Handoffs that have pinned
  // some of it go on with it; what they are gathering is not kept. Returns how many chunks were kept. Waits for
  // the progress thread, at most `deadline` (kDeadlineExceeded; they are dropped all the same,
  // later). Not on the progress thread. Thread-safe.
  Result<size_t> drop_chunks(Duration deadline);

  class Impl;
  Impl& impl() { return *impl_; }

 private:
  explicit Node(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton
