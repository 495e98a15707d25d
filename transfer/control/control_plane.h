// The control plane of a node: one control connection per peer, dialled or accepted.
//
// Frames are protocol/codec.h's. Both sides say HELLO first; a side that cannot agree (version,
// and, of two engines' nodes, fingerprint, chunk size, opaque layout) answers REFUSE naming both
// values and closes. Where a
// token is set, each side proves by AUTH that it has the same one; until then nothing that the peer
// says has any effect on other connections. Then heartbeats run in both directions. Whoever speaks
// first dials; of two simultaneous connections between the same two nodes the one dialled by the
// smaller node address stays, and nothing that was sent on the other is lost or doubled towards the
// owner.
//
// Everything is confined to the io_context's thread, callbacks too; none runs inside a call.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "transfer/base/address.h"
#include "transfer/base/clock.h"
#include "transfer/base/metrics.h"
#include "transfer/base/status.h"
#include "transfer/base/token.h"
#include "transfer/control/tls.h"
#include "transfer/protocol/messages.h"

namespace boost::asio {
class io_context;
}

namespace baton::control {

struct ControlConfig {
  HostPort listen;  // port 0: any free
  // Our node address, or its host alone: then with the bound port. Empty: the bound address.
  std::string advertise;
  Duration heartbeat_interval = std::chrono::milliseconds(200);
  uint32_t heartbeats_missed = 4;                     // that many intervals of silence: stalled
  Duration dial_deadline = std::chrono::seconds(2);   // TCP connect and HELLO together
  Duration hello_deadline = std::chrono::seconds(2);  // an accepted connection must say HELLO
  uint32_t max_connections = 1024;
  size_t max_queued_bytes = 64u << 20;  // a connection's unsent frames; over it: closed
  Token token;   // that peers must have too; none: only peers without one are let in
  TlsFiles tls;  // none: no TLS
};

// A peer that said HELLO and was let in. Valid until on_down returned; then send() drops.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual const protocol::Hello& hello() const = 0;
  // Whether this node dialled the connection that stays.
  virtual bool dialled() const = 0;
  // Known to both sides and to nobody else: from TLS, else from the token; zeros where there is
  // neither. For channels.
  virtual const Digest& session_key() const = 0;
  // No frame has come for heartbeats_missed intervals. Ends handoffs, not the peer.
  virtual bool stalled() const = 0;
  virtual bool up() const = 0;
  virtual void send(const protocol::Message& message) = 0;
  // Ends the connection; on_down follows.
  virtual void close(Status why) = 0;
};

class PeerEvents {
 public:
  virtual ~PeerEvents() = default;
  virtual void on_up(const std::shared_ptr<Peer>& peer) = 0;
  // Any message but HELLO, AUTH, HEARTBEAT and a connection's REFUSE.
  virtual void on_message(Peer& peer, protocol::Message message) = 0;
  virtual void on_stalled(Peer& peer) = 0;
  virtual void on_resumed(Peer& peer) = 0;
  virtual void on_down(Peer& peer, const Status& why) = 0;
};

class ControlPlane {
 public:
  // Listens at once. `hello` is what this node says of itself; its `node`, `has_token` and
  // `challenge` are filled here.
  // `events` outlives this. Errors: kInvalidArgument, kInternal (bind) naming the address.
  static Result<std::unique_ptr<ControlPlane>> create(boost::asio::io_context& io,
                                                      ControlConfig config, protocol::Hello hello,
                                                      PeerEvents& events, Metrics& metrics);
  virtual ~ControlPlane() = default;

  virtual HostPort address() const = 0;  // bound
  virtual const protocol::Hello& hello() const = 0;

  // The peer at this address, dialled if there is no connection to it yet. `done` runs once, within
  // the dial deadline. Errors: kUnavailable (cannot be reached, shutting down), kRefused (its
  // words), kDeadlineExceeded.
  virtual void connect(const HostPort& address,
                       std::function<void(Result<std::shared_ptr<Peer>>)> done) = 0;

  // Stops listening and closes every connection (on_down for each); idempotent.
  virtual void stop() = 0;
};

}  // namespace baton::control
