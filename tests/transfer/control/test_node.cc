#include "tests/transfer/control/test_node.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "transfer/protocol/codec.h"

namespace baton::control::testing {

using protocol::Message;

protocol::Hello test_hello(uint64_t incarnation) {
  protocol::Hello hello;
  hello.incarnation = {incarnation};
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

Message numbered(uint32_t number) { return protocol::Queued{{HandoffId{{1, 2, 3}}, number}}; }

uint32_t number_of(const Message& message) {
  const HandoffAttempt* handoff = protocol::handoff_of(message);
  return handoff != nullptr ? handoff->attempt : 0;
}

TestNode::TestNode(boost::asio::io_context& io, uint64_t incarnation, ControlConfig config,
                   std::function<void(protocol::Hello&)> change) {
  if (config.listen.host.empty()) config.listen = {"127.0.0.1", 0};
  protocol::Hello hello = test_hello(incarnation);
  if (change) change(hello);
  auto created = ControlPlane::create(io, std::move(config), hello, *this, metrics);
  EXPECT_TRUE(created.ok()) << created.status().to_string();
  plane = std::move(*created);
}

void TestNode::on_up(const std::shared_ptr<Peer>& peer) {
  EXPECT_TRUE(peer->up());
  events.push_back("up");
  up.push_back(peer);
  if (when_up) when_up(peer);
}

void TestNode::on_message(Peer& peer, Message message) {
  EXPECT_TRUE(peer.up());
  events.push_back("message");
  messages.push_back(std::move(message));
}

void TestNode::on_stalled(Peer& peer) {
  EXPECT_TRUE(peer.stalled());
  events.push_back("stalled");
}

void TestNode::on_resumed(Peer& peer) {
  EXPECT_FALSE(peer.stalled());
  events.push_back("resumed");
}

void TestNode::on_down(Peer& peer, const Status& why) {
  EXPECT_FALSE(peer.up());
  EXPECT_FALSE(why.ok());
  events.push_back("down");
  downs.push_back(why);
}

std::shared_ptr<TestNode::Connected> TestNode::connect(const HostPort& address) {
  auto connected = std::make_shared<Connected>();
  plane->connect(address, [connected](Result<std::shared_ptr<Peer>> result) {
    EXPECT_FALSE(connected->has_value()) << "answered twice";
    connected->emplace(std::move(result));
  });
  EXPECT_FALSE(connected->has_value()) << "answered inside the call";
  return connected;
}

size_t TestNode::count(std::string_view event) const {
  return std::count(events.begin(), events.end(), event);
}

RawPeer RawPeer::dial(boost::asio::io_context& io, const HostPort& address) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(address.port);
  ::inet_pton(AF_INET, address.host.c_str(), &to.sin_addr);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return RawPeer(io, std::move(fd));
}

void RawPeer::send(const Message& message) {
  const auto frame = protocol::encode(message);
  ASSERT_TRUE(frame.ok()) << frame.status().to_string();
  send_bytes({reinterpret_cast<const char*>(frame->data()), frame->size()});
}

void RawPeer::send_bytes(std::string_view bytes) {
  // The node may have closed already; what it does then is what the test looks at.
  [[maybe_unused]] const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

bool RawPeer::fill() {
  std::byte bytes[4096];
  while (!ended_) {
    const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got > 0) {
      in_.insert(in_.end(), bytes, bytes + got);
    } else {
      ended_ = got == 0 || (errno != EAGAIN && errno != EINTR);
      break;
    }
  }
  return !ended_;
}

std::optional<Message> RawPeer::take() {
  if (in_.size() < protocol::kFrameHeaderBytes) return std::nullopt;
  const auto header = protocol::decode_header(in_);
  EXPECT_TRUE(header.ok()) << header.status().to_string();
  if (!header.ok()) return std::nullopt;
  const size_t bytes = protocol::kFrameHeaderBytes + header->payload_bytes;
  if (in_.size() < bytes) return std::nullopt;
  const std::span<const std::byte> frame(in_.data(), bytes);
  auto message = protocol::decode(*header, frame.subspan(protocol::kFrameHeaderBytes));
  EXPECT_TRUE(message.ok()) << message.status().to_string();
  in_.erase(in_.begin(), in_.begin() + static_cast<ptrdiff_t>(bytes));
  if (!message.ok()) return std::nullopt;
  return std::move(*message);
}

std::optional<Message> RawPeer::receive() {
  std::optional<Message> message;
  run_until(*io_, [&] {
    const bool open = fill();
    message = take();
    return message.has_value() || !open;
  });
  return message;
}

bool RawPeer::closed() { return !receive() && ended_; }

std::vector<Message> RawPeer::received_by_now() {
  fill();
  std::vector<Message> messages;
  while (auto message = take()) messages.push_back(std::move(*message));
  return messages;
}

RawListener::RawListener(boost::asio::io_context& io)
    : io_(&io), fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&at), size), 0);
  EXPECT_EQ(::listen(fd_.get(), 16), 0);
  EXPECT_EQ(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
  address_ = {"127.0.0.1", ntohs(at.sin_port)};
}

RawPeer RawListener::accept() {
  int fd = -1;
  run_until(*io_, [&] {
    fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    return fd >= 0;
  });
  EXPECT_GE(fd, 0);
  return RawPeer(*io_, UniqueFd(fd));
}

}  // namespace baton::control::testing
