// The control plane's inside: every connection from its HELLO to its end.
//
// Of two nodes the one with the smaller address decides which of their connections stays
// (handshake.h, decides()); the other one follows. Both say HELLO at once. The decider's first
// frame after its HELLO, a HEARTBEAT, confirms a connection: only then is it up at the follower,
// and only then may the follower speak on it. So no message can be on a connection that is closed
// as superfluous.
//
//   kHello ── HELLO ──> kProving ── AUTH ──┐ (at once where no token is set)
//     ┌───────────────────────────────────┘
//     ├── follower ──────────────────────────────> kUnconfirmed ── HEARTBEAT ──> kUp
//     ├── decider ── confirm it (send HEARTBEAT) ──────────────────────────────> kUp
//     ├── decider that is itself dialling this node ──> kHeld ── own dial failed ──> kUp
//     └── HELLO that does not agree, AUTH that does not verify, or a second connection
//                                              ──> kRefused (REFUSE sent)
//
// Where a token is set the dialling side sends AUTH after it has read HELLO, the other one after it
// has verified that; a follower so has the decider's AUTH before its HEARTBEAT or its REFUSE of a
// second connection. Until AUTH has verified the peer's HELLO is a stranger's claim: it ends no
// older life of a node and takes nobody's place.
//
// Confined to the io_context's thread. plane.cc has the life of the plane, links.cc that of links.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <map>
#include <set>

#include "transfer/control/connection.h"
#include "transfer/control/control_plane.h"
#include "transfer/control/dial.h"
#include "transfer/control/handshake.h"
#include "transfer/control/liveness.h"

namespace baton::control {

// A connection that says, or has said, HELLO. It is the Peer once it is up.
class Link final : public Peer, public std::enable_shared_from_this<Link> {
 public:
  enum class Stage { kHello, kProving, kHeld, kUnconfirmed, kUp, kRefused, kDown };

  Link(boost::asio::io_context& io, std::shared_ptr<Connection> connection, std::string dial_text,
       Liveness liveness)
      : connection(std::move(connection)),
        dial_text(std::move(dial_text)),
        deadline(io),
        liveness(liveness) {}

  const protocol::Hello& hello() const override { return theirs; }
  bool dialled() const override { return !dial_text.empty(); }
  const Digest& session_key() const override { return session; }
  bool stalled() const override { return liveness.stalled(); }
  bool up() const override { return stage == Stage::kUp && !connection->closed(); }
  void send(const protocol::Message& message) override {
    if (up()) connection->send(message);
  }
  void close(Status why) override { connection->close(std::move(why)); }
  // For logs: the node, as far as it is known.
  std::string name() const;

  const std::shared_ptr<Connection> connection;
  const std::string dial_text;  // what was dialled; empty: accepted
  Stage stage = Stage::kHello;
  protocol::Hello ours;  // as it was sent
  protocol::Hello theirs;
  Digest session{};                    // once the peer is known; zeros without token and TLS
  boost::asio::steady_timer deadline;  // of all that comes before kUp, and of the REFUSE's way out
  Liveness liveness;
};

class Plane : public std::enable_shared_from_this<Plane> {
 public:
  using ConnectDone = std::function<void(Result<std::shared_ptr<Peer>>)>;

  Plane(boost::asio::io_context& io, ControlConfig config, TlsContext tls, protocol::Hello hello,
        PeerEvents& events, Metrics& metrics);

  // plane.cc
  Status listen();
  void connect(const HostPort& address, ConnectDone done);
  void stop();
  const HostPort& address() const { return address_; }
  const protocol::Hello& hello() const { return hello_; }

 private:
  using LinkPtr = std::shared_ptr<Link>;
  // One address text being dialled, for all who asked for it.
  struct Dialling {
    HostPort address;
    // A timer's handler may run after its Dialling is gone, or another has its text: each names its
    // own by this.
    uint64_t number = 0;
    std::vector<ConnectDone> waiting;
    boost::asio::steady_timer deadline;
    boost::asio::steady_timer retry;
    std::shared_ptr<Dial> dial;  // null once it has become `link`
    LinkPtr link;
  };

  // plane.cc
  void accept();
  void accepted(boost::asio::ip::tcp::socket socket);
  Dialling* dialling(const std::string& text, uint64_t number);
  void dial(const std::string& text);
  void dial_failed(const std::string& text, Status why);
  void dial_done(const std::string& text, const LinkPtr& peer);
  void redial_soon(const std::string& text);
  void schedule_tick();
  void tick();
  LinkPtr find_up(const std::string& text) const;

  // links.cc
  void start(const LinkPtr& link);
  void arm(const LinkPtr& link, Duration deadline);
  void deadline_passed(const LinkPtr& link);
  void on_message(const LinkPtr& link, protocol::Message message);
  void on_hello(const LinkPtr& link, const protocol::Hello& theirs);
  void on_auth(const LinkPtr& link, const protocol::Auth& auth);
  void recognise(const LinkPtr& link);
  void on_refuse(const LinkPtr& link, const protocol::Refuse& refuse);
  void decide(const LinkPtr& link);
  void confirm(const LinkPtr& link);
  void establish(const LinkPtr& link);
  void refuse(const LinkPtr& link, protocol::Refuse refuse);
  void end_older_life(const protocol::Hello& theirs);
  void decide_held(const std::string& node);
  void heard(const LinkPtr& link);
  void on_closed(const LinkPtr& link, const Status& why);
  void down(const LinkPtr& link, const Status& why);

  boost::asio::io_context& io_;
  const ControlConfig config_;
  const TlsContext tls_;  // null: none
  protocol::Hello hello_;
  PeerEvents& events_;
  prometheus::Counter& heartbeats_missed_;
  prometheus::Gauge& connections_;

  HostPort address_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer accept_again_;
  boost::asio::steady_timer tick_;
  TimePoint tick_at_;
  TimePoint next_heartbeat_;
  uint64_t heartbeats_sent_ = 0;
  bool stopped_ = false;

  std::set<LinkPtr> links_;                     // all that are not closed
  std::map<std::string, LinkPtr> peers_;        // up, by node address
  std::map<std::string, std::string> aliases_;  // other spellings of peers that are up -> node
  std::map<std::string, Dialling> dials_;       // by address text
  uint64_t dials_begun_ = 0;
  Lives lives_;
};

}  // namespace baton::control
