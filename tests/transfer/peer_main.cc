// The other end of a connection in a process of its own, for tests that stop or kill it.
//
//   transfer_test_peer control HOST:PORT             connects to that node and lives
//   transfer_test_peer local SOCKET NONCE INCARNATION   opens a local channel to that node, as
//                                                    incarnation 99, and keeps what it is shown
//   transfer_test_peer ucx PORT NONCE INCARNATION    opens a ucx channel, and the rest as above
// It ends when its parent does.
#include <signal.h>
#include <sys/prctl.h>

#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <string>
#include <vector>

#include "transfer/base/address.h"
#include "transfer/base/metrics.h"
#include "transfer/control/control_plane.h"
#include "transfer/local/local_endpoint.h"
#include "transfer/ucx/ucx_endpoint.h"

namespace baton {
namespace {

struct Silent : control::PeerEvents {
  void on_up(const std::shared_ptr<control::Peer>&) override {}
  void on_message(control::Peer&, protocol::Message) override {}
  void on_stalled(control::Peer&) override {}
  void on_resumed(control::Peer&) override {}
  void on_down(control::Peer&, const Status&) override {}
};

// What tests/transfer/control/test_node.cc's test_hello() says.
protocol::Hello hello_of_the_tests() {
  protocol::Hello hello;
  hello.incarnation = {99};
  hello.fingerprint = {.model = "model@1",
                       .dtype = "float32",
                       .layers = 2,
                       .planes = 2,
                       .kv_heads = 2,
                       .head_dim = 16,
                       .rope = "theta=10000",
                       .opaque_layout = ""};
  hello.chunk_tokens = 64;
  return hello;
}

int control_peer(const char* address) {
  const auto to = HostPort::parse(address);
  if (!to.ok()) return 2;
  boost::asio::io_context io;
  Silent events;
  Metrics metrics;
  control::ControlConfig config;
  config.listen = {"127.0.0.1", 0};
  auto plane = control::ControlPlane::create(io, config, hello_of_the_tests(), events, metrics);
  if (!plane.ok()) return 1;
  (*plane)->connect(*to, [](Result<std::shared_ptr<control::Peer>> peer) {
    if (!peer.ok()) std::exit(1);
  });
  io.run();
  return 0;
}

struct Keeper : ChannelEvents {
  void on_segment(const SegmentHeader&, ReceivedBytes payload) override {
    kept.push_back(std::move(payload));
  }
  void on_staging() override {}
  void on_channel_closed(const Status&) override { std::exit(0); }
  std::vector<ReceivedBytes> kept;
};

int local_peer(const char* socket, const char* nonce, const char* incarnation) {
  boost::asio::io_context io;
  auto endpoint = local::LocalEndpoint::create(io, {}, {.self = {99}, .nonce = 1},
                                               ChannelMemory::create(io, nullptr, nullptr));
  if (!endpoint.ok()) return 1;
  protocol::Hello hello;
  hello.local_socket = socket;
  hello.channel_nonce = std::strtoull(nonce, nullptr, 10);
  hello.incarnation.value = std::strtoull(incarnation, nullptr, 10);
  Keeper keeper;
  std::unique_ptr<Channel> channel;
  (*endpoint)->open(hello, true, keeper, [&](Result<std::unique_ptr<Channel>> opened) {
    if (!opened.ok()) std::exit(1);
    channel = std::move(*opened);
  });
  io.run();
  return 0;
}

int ucx_peer(const char* port, const char* nonce, const char* incarnation) {
  boost::asio::io_context io;
  ucx::UcxConfig config;
  config.devices = "lo";
  config.max_unconsumed_bytes = 64u << 20;
  auto endpoint = ucx::UcxEndpoint::create(io, config, "127.0.0.1", {.self = {99}, .nonce = 1},
                                           ChannelMemory::create(io, nullptr, nullptr));
  if (!endpoint.ok()) return 1;
  protocol::Hello hello;
  hello.node = "127.0.0.1:1";
  hello.ucx_address = port;
  hello.channel_nonce = std::strtoull(nonce, nullptr, 10);
  hello.incarnation.value = std::strtoull(incarnation, nullptr, 10);
  Keeper keeper;
  std::unique_ptr<Channel> channel;
  (*endpoint)->open(hello, true, keeper, [&](Result<std::unique_ptr<Channel>> opened) {
    if (!opened.ok()) std::exit(1);
    channel = std::move(*opened);
  });
  io.run();
  return 0;
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "control" && argc == 3) return baton::control_peer(argv[2]);
  if (mode == "local" && argc == 5) return baton::local_peer(argv[2], argv[3], argv[4]);
  if (mode == "ucx" && argc == 5) return baton::ucx_peer(argv[2], argv[3], argv[4]);
  return 2;
}
