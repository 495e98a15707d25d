// The life of the plane: listening, dialling, heartbeats, the end.
#include "transfer/control/plane.h"

#include <boost/asio/post.hpp>

#include "transfer/base/log.h"

namespace baton::control {

using boost::asio::ip::tcp;
using boost::system::error_code;

namespace {

// After an accept that failed for want of descriptors, and before a second dial to a node that
// says it has a connection with us of which we know nothing yet.
constexpr auto kAgainAfter = std::chrono::milliseconds(20);

HostPort host_port(const tcp::endpoint& endpoint) {
  return {endpoint.address().to_string(), endpoint.port()};
}

// What peers dial: `advertise` is empty, a host, or a whole node address.
Result<std::string> node_address(const std::string& advertise, const HostPort& bound) {
  if (advertise.empty()) return bound.to_string();
  if (parse_node_address(advertise).ok()) return advertise;
  std::string host = advertise;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const std::string whole = HostPort{host, bound.port}.to_string();
  BATON_RETURN_IF_ERROR(parse_node_address(whole).status());
  return whole;
}

}  // namespace

Plane::Plane(boost::asio::io_context& io, ControlConfig config, TlsContext tls,
             protocol::Hello hello, PeerEvents& events, Metrics& metrics)
    : io_(io),
      config_(std::move(config)),
      tls_(std::move(tls)),
      hello_(std::move(hello)),
      events_(events),
      heartbeats_missed_(metrics.counter("baton_heartbeats_missed_total",
                                         "Heartbeats of peers that did not come in time")),
      connections_(metrics.gauge("baton_control_connections", "Control connections that are up")),
      acceptor_(io),
      accept_again_(io),
      tick_(io) {}

Status Plane::listen() {
  const auto failed = [&](const char* what, const error_code& error) {
    return Status(Code::kInternal,
                  std::string(what) + " " + config_.listen.to_string() + ": " + error.message(),
                  error.value());
  };
  error_code error;
  tcp::resolver resolver(io_);
  const auto found =
      resolver.resolve(config_.listen.host, std::to_string(config_.listen.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) return failed("resolve", error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  if (endpoint.address().is_unspecified() && config_.advertise.empty()) {
    return Status(Code::kInvalidArgument, "listening on " + config_.listen.to_string() +
                                              ", every address of this host: expected --advertise "
                                              "with the one that peers dial");
  }
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return failed("listen on", error);
  address_ = host_port(acceptor_.local_endpoint());
  BATON_ASSIGN_OR_RETURN(hello_.node, node_address(config_.advertise, address_));
  hello_.has_token = config_.token.present();
  accept();
  return ok_status();
}

void Plane::accept() {
  acceptor_.async_accept([weak = weak_from_this()](const error_code& error, tcp::socket socket) {
    const auto self = weak.lock();
    if (!self || self->stopped_) return;
    if (!error) {
      self->accepted(std::move(socket));
      return self->accept();
    }
    if (error == boost::asio::error::connection_aborted) return self->accept();
    log::error("cannot accept control connections address={} why=\"{}\"",
               self->address_.to_string(), error.message());
    self->accept_again_.expires_after(kAgainAfter);
    self->accept_again_.async_wait([weak](const error_code& cancelled) {
      const auto self = weak.lock();
      if (!cancelled && self && !self->stopped_) self->accept();
    });
  });
}

void Plane::accepted(tcp::socket socket) {
  auto connection = std::make_shared<Connection>(Stream::create(std::move(socket), tls_, false),
                                                 config_.max_queued_bytes);
  if (links_.size() >= config_.max_connections) {
    log::warn("control connection turned away remote={} why=\"{} connections are open\"",
              connection->remote(), links_.size());
    return;
  }
  auto link = std::make_shared<Link>(
      io_, std::move(connection), std::string(),
      Liveness(now(), config_.heartbeat_interval, config_.heartbeats_missed));
  arm(link, config_.hello_deadline);
  start(link);
}

Plane::LinkPtr Plane::find_up(const std::string& text) const {
  const auto alias = aliases_.find(text);
  const auto found = peers_.find(alias != aliases_.end() ? alias->second : text);
  return found != peers_.end() && found->second->up() ? found->second : nullptr;
}

void Plane::connect(const HostPort& address, ConnectDone done) {
  const std::string text = address.to_string();
  const auto answer = [&](Result<std::shared_ptr<Peer>> result) {
    boost::asio::post(io_, [done, result = std::move(result)] { done(result); });
  };
  if (stopped_) return answer(Status(Code::kUnavailable, "this node is shutting down"));
  if (const LinkPtr peer = find_up(text)) return answer(std::shared_ptr<Peer>(peer));
  const auto [found, first] = dials_.try_emplace(text, Dialling{address,
                                                                dials_begun_,
                                                                {},
                                                                boost::asio::steady_timer(io_),
                                                                boost::asio::steady_timer(io_),
                                                                nullptr,
                                                                nullptr});
  found->second.waiting.push_back(std::move(done));
  if (!first) return;
  const uint64_t number = dials_begun_++;
  found->second.deadline.expires_after(config_.dial_deadline);
  found->second.deadline.async_wait([weak = weak_from_this(), text,
                                     number](const error_code& cancelled) {
    const auto self = weak.lock();
    if (cancelled || !self || self->dialling(text, number) == nullptr) return;
    self->dial_failed(
        text, Status(Code::kDeadlineExceeded,
                     text + ": not connected within " +
                         std::to_string(static_cast<int64_t>(to_ms(self->config_.dial_deadline))) +
                         " ms"));
  });
  dial(text);
}

// Null once the plane has stopped or that Dialling is over.
Plane::Dialling* Plane::dialling(const std::string& text, uint64_t number) {
  const auto found = dials_.find(text);
  if (stopped_ || found == dials_.end() || found->second.number != number) return nullptr;
  return &found->second;
}

void Plane::dial(const std::string& text) {
  Dialling& dialling = dials_.at(text);
  const uint64_t number = dialling.number;
  dialling.link = nullptr;
  dialling.dial = Dial::start(
      io_, dialling.address, [weak = weak_from_this(), text, number](Result<tcp::socket> socket) {
        const auto self = weak.lock();
        Dialling* const dialling = self ? self->dialling(text, number) : nullptr;
        if (dialling == nullptr) return;
        if (!socket.ok()) return self->dial_failed(text, socket.status());
        dialling->dial = nullptr;
        dialling->link = std::make_shared<Link>(
            self->io_,
            std::make_shared<Connection>(Stream::create(std::move(*socket), self->tls_, true),
                                         self->config_.max_queued_bytes),
            text,
            Liveness(now(), self->config_.heartbeat_interval, self->config_.heartbeats_missed));
        self->start(dialling->link);
      });
}

// The peer has another connection with us, which is about to be up here, or has not noticed yet
// that it is gone.
void Plane::redial_soon(const std::string& text) {
  const auto found = dials_.find(text);
  if (found == dials_.end()) return;
  Dialling& dialling = found->second;
  const std::string node = dialling.link ? dialling.link->theirs.node : text;
  dialling.link = nullptr;
  if (const LinkPtr peer = find_up(node)) return dial_done(text, peer);
  dialling.retry.expires_after(kAgainAfter);
  dialling.retry.async_wait(
      [weak = weak_from_this(), text, node, number = dialling.number](const error_code& cancelled) {
        const auto self = weak.lock();
        if (cancelled || !self || self->dialling(text, number) == nullptr) return;
        const LinkPtr peer = self->find_up(node);
        peer ? self->dial_done(text, peer) : self->dial(text);
      });
}

void Plane::dial_failed(const std::string& text, Status why) {
  // Whoever connected is as good as whoever was connected to.
  if (const LinkPtr peer = find_up(text)) return dial_done(text, peer);
  auto found = dials_.extract(text);
  if (found.empty()) return;
  Dialling& dialling = found.mapped();
  if (dialling.dial) dialling.dial->cancel();
  if (dialling.link && dialling.link->stage != Link::Stage::kRefused) {
    dialling.link->connection->close(why);
  }
  log::debug("dial failed address={} why=\"{}\"", text, why.to_string());
  for (const ConnectDone& done : dialling.waiting) {
    boost::asio::post(io_, [done, why] { done(why); });
  }
  decide_held(text);
}

void Plane::dial_done(const std::string& text, const LinkPtr& peer) {
  auto found = dials_.extract(text);
  if (found.empty()) return;
  Dialling& dialling = found.mapped();
  if (dialling.dial) dialling.dial->cancel();
  if (dialling.link && dialling.link != peer && dialling.link->stage != Link::Stage::kRefused) {
    dialling.link->stage = Link::Stage::kRefused;
    dialling.link->connection->close(Status(Code::kCancelled, "another connection stays"));
  }
  if (text != peer->theirs.node && peer->up()) aliases_[text] = peer->theirs.node;
  for (const ConnectDone& done : dialling.waiting) {
    boost::asio::post(io_, [done, peer]() -> void {
      if (!peer->up()) return done(Status(Code::kUnavailable, "the connection ended at once"));
      done(std::shared_ptr<Peer>(peer));
    });
  }
  decide_held(peer->theirs.node);
}

void Plane::schedule_tick() {
  if (stopped_ || peers_.empty()) return;
  const TimePoint at_least = now() + config_.heartbeat_interval / 8;
  tick_at_ = next_heartbeat_;
  for (const auto& [node, link] : peers_) {
    if (!link->stalled()) tick_at_ = std::min(tick_at_, link->liveness.stalls_at());
  }
  tick_at_ = std::max(tick_at_, std::min(at_least, next_heartbeat_));
  tick_.expires_at(tick_at_);
  tick_.async_wait([weak = weak_from_this()](const error_code& cancelled) {
    const auto self = weak.lock();
    if (!cancelled && self && !self->stopped_) self->tick();
  });
}

void Plane::tick() {
  const TimePoint start = now();
  // This process was stopped, or its thread held up: what the peers said meanwhile waits to be
  // read, and the silence of that time is ours.
  const Duration late = start - tick_at_;
  const bool was_away = late > config_.heartbeat_interval;
  if (was_away)
    log::warn("heartbeats are late by {:.0f} ms: this process did not run", to_ms(late));
  const bool heartbeat = start >= next_heartbeat_;
  if (heartbeat) next_heartbeat_ = start + config_.heartbeat_interval;
  const auto peers = peers_;  // callbacks change it
  for (const auto& [node, link] : peers) {
    if (!link->up()) continue;
    if (was_away) link->liveness.excuse(start, late);
    // A frame that is on its way says as much as a heartbeat.
    if (heartbeat && !link->connection->writing()) {
      link->send(protocol::Heartbeat{++heartbeats_sent_});
    }
    const Liveness::Verdict verdict = link->liveness.judge(start);
    if (link->connection->readable()) continue;
    heartbeats_missed_.Increment(verdict.newly_missed);
    if (!verdict.stalls) continue;
    link->liveness.set_stalled();
    log::warn("peer is stalled peer={} silence_ms={:.0f}", node,
              to_ms(link->liveness.silence(start)));
    events_.on_stalled(*link);
    if (stopped_) return;
  }
  schedule_tick();
}

void Plane::stop() {
  if (std::exchange(stopped_, true)) return;
  const Status why(Code::kUnavailable, "this node is shutting down");
  error_code ignored;
  acceptor_.close(ignored);
  accept_again_.cancel();
  tick_.cancel();
  while (!dials_.empty()) dial_failed(std::string(dials_.begin()->first), why);
  for (const LinkPtr& link : links_) link->connection->close(why);
}

namespace {

class ControlPlaneImpl final : public ControlPlane {
 public:
  explicit ControlPlaneImpl(std::shared_ptr<Plane> plane) : plane_(std::move(plane)) {}
  // Connections are closed; callbacks that are due would find nobody, so they are dropped.
  ~ControlPlaneImpl() override { plane_->stop(); }

  HostPort address() const override { return plane_->address(); }
  const protocol::Hello& hello() const override { return plane_->hello(); }
  void connect(const HostPort& address, Plane::ConnectDone done) override {
    plane_->connect(address, std::move(done));
  }
  void stop() override { plane_->stop(); }

 private:
  std::shared_ptr<Plane> plane_;
};

}  // namespace

Result<std::unique_ptr<ControlPlane>> ControlPlane::create(boost::asio::io_context& io,
                                                           ControlConfig config,
                                                           protocol::Hello hello,
                                                           PeerEvents& events, Metrics& metrics) {
  if (config.heartbeat_interval <= Duration::zero() || config.heartbeats_missed == 0) {
    return Status(Code::kInvalidArgument,
                  "heartbeat_interval and heartbeats_missed are " +
                      std::to_string(to_ms(config.heartbeat_interval)) + " ms and " +
                      std::to_string(config.heartbeats_missed) + ": expected both above zero");
  }
  BATON_ASSIGN_OR_RETURN(TlsContext tls, make_tls(config.tls));
  auto plane = std::make_shared<Plane>(io, std::move(config), std::move(tls), std::move(hello),
                                       events, metrics);
  BATON_RETURN_IF_ERROR(plane->listen());
  return std::unique_ptr<ControlPlane>(std::make_unique<ControlPlaneImpl>(std::move(plane)));
}

}  // namespace baton::control
