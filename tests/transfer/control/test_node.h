// A node's control plane with everything it tells its owner written down, and a peer made of a
// plain socket that says whatever a test wants, at the moment the test wants it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/transfer/loop.h"
#include "transfer/base/unique_fd.h"
#include "transfer/control/control_plane.h"

namespace baton::control::testing {

using baton::testing::kPatience;
using baton::testing::run_for;
using baton::testing::run_until;

protocol::Hello test_hello(uint64_t incarnation);
// A message that can be told from others.
protocol::Message numbered(uint32_t number);
uint32_t number_of(const protocol::Message& message);

struct TestNode : PeerEvents {
  // Listens at 127.0.0.1, any port.
  TestNode(boost::asio::io_context& io, uint64_t incarnation, ControlConfig config = {},
           std::function<void(protocol::Hello&)> change = nullptr);

  void on_up(const std::shared_ptr<Peer>& peer) override;
  void on_message(Peer& peer, protocol::Message message) override;
  void on_stalled(Peer& peer) override;
  void on_resumed(Peer& peer) override;
  void on_down(Peer& peer, const Status& why) override;

  using Connected = std::optional<Result<std::shared_ptr<Peer>>>;
  // Filled when the plane answers.
  std::shared_ptr<Connected> connect(const HostPort& address);

  size_t count(std::string_view event) const;
  std::shared_ptr<Peer> peer() const { return up.empty() ? nullptr : up.back(); }

  Metrics metrics;
  std::vector<std::string> events;  // "up", "message", "stalled", "resumed", "down"
  std::vector<std::shared_ptr<Peer>> up;
  std::vector<protocol::Message> messages;
  std::vector<Status> downs;
  std::function<void(const std::shared_ptr<Peer>&)> when_up;
  std::unique_ptr<ControlPlane> plane;
};

// One end of a TCP connection by hand. Its calls run the loop while they wait.
class RawPeer {
 public:
  static RawPeer dial(boost::asio::io_context& io, const HostPort& address);
  RawPeer(boost::asio::io_context& io, UniqueFd fd) : io_(&io), fd_(std::move(fd)) {}

  void send(const protocol::Message& message);
  void send_bytes(std::string_view bytes);
  // The next frame; nothing once the node has closed, or when none comes within kPatience.
  std::optional<protocol::Message> receive();
  // Whether the node closes without another frame.
  bool closed();
  bool ended_by_now() { return !fill(); }
  // Frames that have come by now.
  std::vector<protocol::Message> received_by_now();
  void close() { fd_.reset(); }

 private:
  bool fill();  // reads what is there; false at the end
  std::optional<protocol::Message> take();
  boost::asio::io_context* io_;
  UniqueFd fd_;
  std::vector<std::byte> in_;
  bool ended_ = false;
};

// A listening socket that a node can dial.
class RawListener {
 public:
  explicit RawListener(boost::asio::io_context& io);
  RawPeer accept();
  HostPort address() const { return address_; }

 private:
  boost::asio::io_context* io_;
  UniqueFd fd_;
  HostPort address_;
};

}  // namespace baton::control::testing
