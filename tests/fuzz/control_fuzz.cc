#include "tests/fuzz/control_fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <optional>
#include <vector>

#include "transfer/base/check.h"
#include "transfer/base/unique_fd.h"
#include "transfer/control/connection.h"
#include "transfer/control/handshake.h"
#include "transfer/protocol/codec.h"
#include "transfer/protocol/offer.h"

namespace baton {
namespace {

using namespace protocol;

constexpr size_t kStrangerPayloadBytes = 16 << 10;

struct Expected {
  std::vector<Message> messages;
  size_t bytes = 0;    // of their frames
  bool wrong = false;  // then comes what is none
};

// The frames one after the other, without a connection.
Expected frames_of(std::span<const std::byte> stream) {
  Expected expected;
  while (stream.size() >= kFrameHeaderBytes) {
    const auto header = decode_header(stream);
    const size_t limit = expected.messages.empty() ? kStrangerPayloadBytes : kMaxPayloadBytes;
    expected.wrong = !header.ok() || header->payload_bytes > limit;
    if (expected.wrong || stream.size() - kFrameHeaderBytes < header->payload_bytes) break;
    auto message = decode(*header, stream.subspan(kFrameHeaderBytes, header->payload_bytes));
    expected.wrong = !message.ok();
    if (expected.wrong) break;
    expected.messages.push_back(std::move(*message));
    const size_t frame_bytes = kFrameHeaderBytes + header->payload_bytes;
    expected.bytes += frame_bytes;
    stream = stream.subspan(frame_bytes);
  }
  return expected;
}

Hello our_hello() {
  Hello ours;
  ours.node = "127.0.0.1:7000";
  ours.incarnation = {1};
  ours.fingerprint.model = "model";
  ours.fingerprint.dtype = "float16";
  ours.chunk_tokens = 256;
  return ours;
}

// As links.cc does it.
void greet(const Message& message) {
  const auto* hello = std::get_if<Hello>(&message);
  if (hello == nullptr) return;
  auto refuse = control::disagreement(our_hello(), *hello);
  if (!refuse) return;
  refuse->text = bounded_text(control::printable(refuse->text));
  BATON_CHECK(
      std::ranges::none_of(refuse->text, [](unsigned char c) { return c < ' ' || c == 0x7f; }),
      "a peer's text holds no control character");
  const auto frame = encode(*refuse);
  BATON_CHECK(frame.ok(), frame.status().to_string());
}

// What the peer can read of what was sent to it.
size_t readable_bytes(int fd, std::span<const std::byte> equal_to) {
  size_t total = 0;
  std::byte buffer[4096];
  for (;;) {
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n <= 0) return total;
    const auto bytes = std::span(buffer, static_cast<size_t>(n));
    BATON_CHECK(total + bytes.size() <= equal_to.size() &&
                    std::ranges::equal(bytes, equal_to.subspan(total, bytes.size())),
                "a message has one encoding");
    total += bytes.size();
  }
}

}  // namespace

size_t fuzz_control(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = size_t{data[0]} + 1;
  const auto stream = std::as_bytes(std::span(data + 1, size - 1));
  const Expected expected = frames_of(stream);

  int fds[2];
  BATON_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0,
              "socketpair");
  UniqueFd peer(fds[0]);
  boost::asio::io_context io(1);
  boost::asio::ip::tcp::socket socket(io);
  socket.assign(boost::asio::ip::tcp::v4(), fds[1]);
  auto connection = std::make_shared<control::Connection>(
      control::Stream::create(std::move(socket), nullptr, false), size_t{8} << 20);

  size_t passed = 0, answered = 0;
  std::optional<Status> closed;
  connection->start(
      [&](Message message) {
        BATON_CHECK(
            !closed && passed < expected.messages.size() && message == expected.messages[passed],
            "the connection passes on the frames that came, in order");
        ++passed;
        connection->let_in();
        greet(message);
        connection->send(message);  // every message goes back
      },
      [&](const Status& why) {
        BATON_CHECK(!closed, "a connection closes once");
        closed = why;
      });

  for (size_t at = 0; at < stream.size() && !closed;) {
    const auto part = stream.subspan(at, std::min(piece, stream.size() - at));
    const ssize_t sent = ::send(peer.get(), part.data(), part.size(), MSG_NOSIGNAL);
    if (sent > 0) at += static_cast<size_t>(sent);
    io.poll();
    io.restart();
    answered += readable_bytes(peer.get(), stream.subspan(answered));
    if (sent <= 0) break;  // it was closed
  }
  ::shutdown(peer.get(), SHUT_WR);
  for (int i = 0; i < 1000 && !closed; ++i) {
    io.poll();
    io.restart();
  }
  answered += readable_bytes(peer.get(), stream.subspan(answered));
  BATON_CHECK(closed.has_value(), "a connection ends with its stream");
  BATON_CHECK(passed == expected.messages.size(), "every whole frame is passed on");
  BATON_CHECK((closed->code() == Code::kProtocol) == expected.wrong, closed->to_string());
  // What was unsent when a wrong frame closed the connection is lost.
  BATON_CHECK(answered == expected.bytes || expected.wrong, "every message is sent");
  connection.reset();
  io.poll();
  return passed;
}

}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  baton::fuzz_control(data, size);
  return 0;
}
