#include "connectors/node_options.h"

#include "transfer/base/bytes.h"

namespace baton {
namespace {

constexpr uint64_t kDayMs = 24 * 3600 * 1000;

Status of_flag(const char* flag, const Status& status) {
  return Status(Code::kInvalidArgument, std::string(flag) + ": " + status.message());
}

}  // namespace

void add_node_options(const Command& command, NodeOptions& options) {
  command.add_option("--node", options.node, "host:port of the node's control connections");
  command.add_option("--node-http", options.node_http, "host:port of the node's HTTP (none)");
  command.add_option("--advertise", options.advertise,
                     "host, or host:port, at which peers dial the node (as in --node)");
  command.add_option("--tls-cert", options.tls.certificate,
                     "PEM file: the node's certificate; control connections then use mutual TLS "
                     "1.3");
  command.add_option("--tls-key", options.tls.key, "PEM file: its key, closed to other users");
  command.add_option("--tls-ca", options.tls.authority,
                     "PEM file: the authority whose certificates are let in");
  command.add_flag("--insecure", options.insecure,
                   "the node may listen beyond loopback although no token is set");
  command.add_option("--channel", options.channel,
                     "how KV bytes move: auto, local (shared memory), tcp or ucx (auto)");
  command.add_option("--tcp-port", options.tcp_port, "where the tcp channel accepts lanes (any)");
  command.add_option("--tcp-lanes", options.tcp_lanes, "connections of a tcp channel (2)")
      .range(1u, 16u);
  command.add_option(
      "--tcp-congestion", options.tcp_congestion,
      "congestion control of the tcp channel (cubic on loopback, else the system's)");
  command.add_option("--tier-policy", options.tier_policy,
                     "which chunks leave CPU memory first: lru, s3fifo or age-per-use "
                     "(age-per-use)");
  command.add_option("--tenant-quota", options.tenant_quota,
                     "bytes of CPU memory that the requests of one salt may have; 0: all (0)");
  command.add_flag("--huge-pages", options.huge_pages, "for the node's memory");
  command.add_option("--heartbeat-ms", options.heartbeat_ms, "between heartbeats (200)")
      .range(uint64_t{1}, kDayMs);
  command.add_option("--progress-ms", options.progress_ms, "between verified bytes (2000)")
      .range(uint64_t{1}, kDayMs);
  command
      .add_option("--nvme", options.nvme,
                  "PATH:SIZE, such as /data/baton.kv:200GiB: a file or block device that keeps "
                  "chunks, also over a restart (repeatable)")
      .repeatable();
  command.add_option("--s3", options.s3,
                     "s3://BUCKET[/PREFIX][?endpoint=URL&…]: a bucket that keeps chunks for many "
                     "nodes (transfer/tiers/s3/README.md)");
  command
      .add_option("--peer", options.peers,
                  "host:port of a node that is asked for chunks which this one has not "
                  "(repeatable)")
      .repeatable();
  command
      .add_option("--load-ms", options.load_ms,
                  "a load from below the host tier takes so long at most (5000)")
      .range(uint64_t{1}, kDayMs);
}

Status read_address(const char* flag, const std::string& text, HostPort& address) {
  auto parsed = HostPort::parse(text);
  if (!parsed.ok()) return of_flag(flag, parsed.status());
  address = std::move(parsed).value();
  return ok_status();
}

Status read_bytes(const char* flag, const std::string& text, uint64_t& bytes) {
  const auto parsed = parse_bytes(text);
  if (!parsed.ok()) return of_flag(flag, parsed.status());
  bytes = *parsed;
  return ok_status();
}

Status apply(const NodeOptions& options, NodeConfig& config) {
  if (!options.node.empty())
    BATON_RETURN_IF_ERROR(read_address("--node", options.node, config.listen));
  if (!options.node_http.empty())
    BATON_RETURN_IF_ERROR(read_address("--node-http", options.node_http, config.http.emplace()));
  const auto channel = parse_channel_choice(options.channel);
  if (!channel.ok()) return of_flag("--channel", channel.status());
  config.channel = *channel;
  config.control.advertise = options.advertise;
  config.control.tls = options.tls;
  config.control.heartbeat_interval = std::chrono::milliseconds(options.heartbeat_ms);
  config.insecure = options.insecure;
  config.tcp.port = options.tcp_port;
  config.tcp.lanes = options.tcp_lanes;
  config.tcp.congestion = options.tcp_congestion;
  config.huge_pages = options.huge_pages;
  const auto policy = scheduler::parse_eviction(options.tier_policy);
  if (!policy.ok()) return of_flag("--tier-policy", policy.status());
  config.tier_policy = *policy;
  uint64_t tenant_bytes = 0;
  BATON_RETURN_IF_ERROR(read_bytes("--tenant-quota", options.tenant_quota, tenant_bytes));
  config.tenant_bytes = tenant_bytes;
  config.sender.progress_deadline = std::chrono::milliseconds(options.progress_ms);
  config.receiver.progress_deadline = std::chrono::milliseconds(options.progress_ms);
  for (const std::string& text : options.nvme) {
    auto device = NvmeDevice::parse(text);
    if (!device.ok()) return of_flag("--nvme", device.status());
    config.tiers.nvme.push_back(std::move(device).value());
  }
  if (!options.s3.empty()) {
    auto s3 = s3::parse_s3_url(options.s3);
    if (!s3.ok()) return of_flag("--s3", s3.status());
    config.tiers.s3 = std::move(s3).value();
  }
  for (const std::string& peer : options.peers)
    BATON_RETURN_IF_ERROR(read_address("--peer", peer, config.tiers.peers.emplace_back()));
  config.tiers.load_deadline = std::chrono::milliseconds(options.load_ms);
  return ok_status();
}

}  // namespace baton
