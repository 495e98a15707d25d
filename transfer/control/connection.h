// One TCP connection, perhaps with TLS on it, that carries frames, whatever they say.
//
// Reads and writes until close(); the frames of a peer that was not let in yet must be small.
// Confined to the io_context's thread. Callbacks run on it, never inside a call.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transfer/base/status.h"
#include "transfer/control/stream.h"
#include "transfer/protocol/messages.h"

namespace baton::control {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // After on_closed neither is called; on_closed is called once, also for our own close().
  using OnMessage = std::function<void(protocol::Message)>;
  using OnClosed = std::function<void(const Status&)>;

  // Sets TCP_NODELAY, and TCP_USER_TIMEOUT so that a host that vanished is found out in the end.
  Connection(std::unique_ptr<Stream> stream, size_t max_queued_bytes);

  // The TLS handshake, where there is one, comes first; what is sent meanwhile waits for it.
  void start(OnMessage on_message, OnClosed on_closed);
  // From now on frames of up to kMaxFrameBytes are read.
  void let_in() { let_in_ = true; }

  // Queues a frame; more than max_queued_bytes unsent closes the connection. Dropped once closed.
  void send(const protocol::Message& message);
  // Sends what is queued, then ends our half, and closes when the peer has closed its own. Nothing
  // that still comes is passed on. The caller bounds how long that may take.
  void finish(Status why);
  void close(Status why);

  bool closed() const { return closed_; }
  bool writing() const { return !queue_.empty(); }
  // Whether bytes have come that were not read yet.
  bool readable() const;
  const std::string& remote() const { return remote_; }
  // Stream::exported_key, once a message has come.
  std::optional<Digest> exported_key() { return stream_->exported_key(); }

 private:
  void read();
  // Takes whole frames out of the buffer; false once closed.
  bool take_frames();
  void write();
  void end_our_half();

  const std::unique_ptr<Stream> stream_;
  const size_t max_queued_bytes_;
  const std::string remote_;
  OnMessage on_message_;
  OnClosed on_closed_;
  std::vector<std::byte> in_;  // [taken_, filled_) was read and not yet taken
  size_t taken_ = 0;
  size_t filled_ = 0;
  std::deque<std::vector<std::byte>> queue_;
  size_t queued_bytes_ = 0;
  size_t in_flight_ = 0;  // frames at the front of queue_ that are being written
  Status finish_why_;     // not ok: finishing
  bool ready_ = false;    // the handshake is over
  bool let_in_ = false;
  bool closed_ = false;
};

}  // namespace baton::control
