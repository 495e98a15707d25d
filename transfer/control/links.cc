// The life of a link: handshake, which of two stays, messages, end.
#include "transfer/base/log.h"
#include "transfer/control/auth.h"
#include "transfer/control/plane.h"
#include "transfer/protocol/offer.h"

namespace baton::control {

using protocol::Hello;
using protocol::Message;
using protocol::Refuse;
using protocol::RefuseReason;

std::string Link::name() const {
  if (!theirs.node.empty()) return theirs.node;
  return dialled() ? dial_text : connection->remote();
}

void Plane::start(const LinkPtr& link) {
  links_.insert(link);
  // The link owns its connection, so the connection's callbacks must not own the link; the plane
  // may be gone before the last of them.
  std::weak_ptr<Plane> plane = weak_from_this();
  std::weak_ptr<Link> weak = link;
  link->connection->start(
      [plane, weak](Message message) {
        const auto self = plane.lock();
        const auto link = weak.lock();
        if (self && link) self->on_message(link, std::move(message));
      },
      [plane, weak](const Status& why) {
        const auto self = plane.lock();
        const auto link = weak.lock();
        if (self && link) self->on_closed(link, why);
      });
  link->ours = hello_;
  link->ours.challenge = random_digest();
  link->connection->send(link->ours);
}

void Plane::arm(const LinkPtr& link, Duration deadline) {
  link->deadline.expires_after(deadline);
  link->deadline.async_wait([plane = weak_from_this(), weak = std::weak_ptr<Link>(link)](
                                const boost::system::error_code& error) {
    const auto self = plane.lock();
    const auto link = weak.lock();
    if (!error && self && link) self->deadline_passed(link);
  });
}

void Plane::deadline_passed(const LinkPtr& link) {
  switch (link->stage) {
    case Link::Stage::kHello:
      return link->connection->close(Status(Code::kDeadlineExceeded, "no HELLO in time"));
    case Link::Stage::kProving:
      return link->connection->close(Status(Code::kDeadlineExceeded, "no AUTH in time"));
    case Link::Stage::kUnconfirmed:
      return link->connection->close(Status(Code::kDeadlineExceeded, "not confirmed in time"));
    case Link::Stage::kRefused:
      return link->connection->close(Status(Code::kRefused, "refused"));
    case Link::Stage::kHeld:
      // Our own dial takes too long, while this connection is there.
      return peers_.contains(link->theirs.node) ? decide(link) : confirm(link);
    case Link::Stage::kUp:
    case Link::Stage::kDown:
      return;
  }
}

void Plane::on_message(const LinkPtr& link, Message message) {
  if (stopped_) return;
  const auto* refused = std::get_if<Refuse>(&message);
  if (refused != nullptr && refused->handoff.id == HandoffId{}) return on_refuse(link, *refused);
  const auto* hello = std::get_if<Hello>(&message);
  const auto* auth = std::get_if<protocol::Auth>(&message);
  bool due = false;
  switch (link->stage) {
    case Link::Stage::kHello:
      due = hello != nullptr;
      break;
    case Link::Stage::kProving:
      due = auth != nullptr;
      break;
    case Link::Stage::kUnconfirmed:
    case Link::Stage::kUp:
      due = hello == nullptr && auth == nullptr;
      break;
    case Link::Stage::kHeld:
    case Link::Stage::kRefused:
    case Link::Stage::kDown:
      break;
  }
  if (!due) {
    return link->connection->close(
        Status(Code::kProtocol, std::string("an unexpected ") + message_name(message)));
  }
  if (hello != nullptr) return on_hello(link, *hello);
  if (auth != nullptr) return on_auth(link, *auth);
  if (link->stage == Link::Stage::kUnconfirmed) establish(link);
  heard(link);
  if (link->up() && !std::holds_alternative<protocol::Heartbeat>(message)) {
    events_.on_message(*link, std::move(message));
  }
}

void Plane::on_hello(const LinkPtr& link, const Hello& theirs) {
  if (const auto node = parse_node_address(theirs.node); !node.ok()) {
    return link->connection->close(Status(Code::kProtocol, node.status().message()));
  }
  if (printable(theirs.node) != theirs.node) {
    return link->connection->close(Status(Code::kProtocol, "a node address that is not text"));
  }
  link->theirs = theirs;
  if (auto differs = disagreement(link->ours, theirs)) return refuse(link, std::move(*differs));
  if (!config_.token.present()) return recognise(link);
  link->stage = Link::Stage::kProving;
  if (link->dialled()) {
    link->connection->send(prove(config_.token, AuthRole::kDialler, link->ours, theirs));
  }
}

void Plane::on_auth(const LinkPtr& link, const protocol::Auth& auth) {
  const Hello& ours = link->ours;
  const Hello& theirs = link->theirs;
  const bool dialled = link->dialled();
  if (!verify(auth, config_.token, dialled ? AuthRole::kAcceptor : AuthRole::kDialler, theirs,
              ours)) {
    return refuse(link, {.reason = RefuseReason::kAuthentication,
                         .text = "the proof of " + theirs.node + " does not verify at " +
                                 hello_.node + ": both need the same token"});
  }
  link->session = session_key(config_.token, dialled ? ours : theirs, dialled ? theirs : ours);
  if (!dialled) link->connection->send(prove(config_.token, AuthRole::kAcceptor, ours, theirs));
  recognise(link);
}

// The peer is who it says it is, as far as this node asks for that.
void Plane::recognise(const LinkPtr& link) {
  const Hello& theirs = link->theirs;
  const auto key = link->connection->exported_key();
  if (key) link->session = *key;
  // Channels prove themselves with it.
  if (tls_ && !key)
    return link->connection->close(Status(Code::kInternal, "no key of the TLS session to be had"));
  if (lives_.judge(theirs.node, theirs.incarnation) == Lives::Verdict::kOver) {
    return refuse(link, {.reason = RefuseReason::kIncarnation,
                         .text = "incarnation " + std::to_string(theirs.incarnation.value) +
                                 " of " + theirs.node + " is over: a newer one has come"});
  }
  end_older_life(theirs);
  lives_.begin(theirs.node, theirs.incarnation);
  if (stopped_ || link->connection->closed()) return;  // on_down's doing
  if (decides(hello_, theirs)) return decide(link);
  link->stage = Link::Stage::kUnconfirmed;
}

void Plane::end_older_life(const Hello& theirs) {
  const auto links = links_;  // callbacks change it
  for (const LinkPtr& other : links) {
    if (other->theirs.node != theirs.node || other->theirs.incarnation == theirs.incarnation) {
      continue;
    }
    // What it claims to be is not known yet; it may be the newer one.
    if (other->stage == Link::Stage::kProving) continue;
    const Status why(Code::kUnavailable, "node " + theirs.node + " began a new life");
    if (other->stage == Link::Stage::kUp) down(other, why);
    if (other->stage != Link::Stage::kRefused) other->connection->close(why);
  }
}

// At the decider: whether this connection is the one between the two nodes.
void Plane::decide(const LinkPtr& link) {
  const std::string& node = link->theirs.node;
  if (const auto found = peers_.find(node); found != peers_.end()) {
    const LinkPtr peer = found->second;
    const bool alive = peer->up() && (!peer->stalled() || peer->connection->readable());
    if (alive) {
      refuse(link, {.reason = RefuseReason::kDuplicate,
                    .text = "another connection with " + hello_.node + " stays"});
      return;
    }
    down(peer, Status(Code::kUnavailable, "the peer connected anew"));
    if (stopped_ || link->connection->closed()) return;
  }
  const auto ours = dials_.find(node);
  const bool we_dial = ours != dials_.end() && (ours->second.dial || ours->second.link);
  if (!link->dialled() && we_dial && link->stage != Link::Stage::kHeld) {
    // Ours stays, if it comes about in time.
    link->stage = Link::Stage::kHeld;
    return arm(link, config_.dial_deadline / 2);
  }
  if (link->stage == Link::Stage::kHeld && we_dial) return;
  confirm(link);
}

void Plane::confirm(const LinkPtr& link) {
  link->connection->send(protocol::Heartbeat{++heartbeats_sent_});
  establish(link);
}

void Plane::establish(const LinkPtr& link) {
  const std::string node = link->theirs.node;
  if (const auto old = peers_.find(node); old != peers_.end()) {
    // The decider has given up the old one, or it would not have confirmed this one.
    down(LinkPtr(old->second), Status(Code::kUnavailable, "the peer connected anew"));
  }
  if (stopped_ || link->connection->closed()) return;
  link->stage = Link::Stage::kUp;
  link->deadline.cancel();
  link->liveness = Liveness(now(), config_.heartbeat_interval, config_.heartbeats_missed);
  link->connection->let_in();
  // Nobody was owed a heartbeat while there was no peer.
  if (peers_.empty()) next_heartbeat_ = now() + config_.heartbeat_interval;
  peers_[node] = link;
  connections_.Set(static_cast<double>(peers_.size()));
  log::info("control connection is up peer={} {}={} incarnation={}", node,
            link->dialled() ? "dialled" : "accepted_from",
            link->dialled() ? link->dial_text : link->connection->remote(),
            link->theirs.incarnation.value);
  schedule_tick();
  events_.on_up(link);
  if (link->dialled()) dial_done(link->dial_text, link);
  dial_done(node, link);
}

void Plane::refuse(const LinkPtr& link, Refuse refuse) {
  refuse.text = protocol::bounded_text(printable(refuse.text));
  const Status why(Code::kRefused, refuse.text);
  const bool duplicate = refuse.reason == RefuseReason::kDuplicate;
  log::log(duplicate ? log::Level::kDebug : log::Level::kWarn,
           "control connection refused by us peer={} remote={} reason={} text=\"{}\"", link->name(),
           link->connection->remote(), refuse_reason_name(refuse.reason), refuse.text);
  link->stage = Link::Stage::kRefused;
  link->connection->send(std::move(refuse));
  link->connection->finish(why);
  arm(link, config_.hello_deadline);
  if (!link->dialled()) return;
  if (duplicate) return dial_done(link->dial_text, peers_.at(link->theirs.node));
  dial_failed(link->dial_text, why);
}

void Plane::on_refuse(const LinkPtr& link, const Refuse& refuse) {
  const Status why(Code::kRefused, link->name() + " refuses: " + printable(refuse.text));
  const bool duplicate =
      refuse.reason == RefuseReason::kDuplicate && link->stage == Link::Stage::kUnconfirmed;
  if (!duplicate && link->stage != Link::Stage::kRefused) {
    log::warn("control connection refused by the peer peer={} remote={} reason={} text=\"{}\"",
              link->name(), link->connection->remote(), refuse_reason_name(refuse.reason),
              why.message());
  }
  if (link->dialled() && duplicate) redial_soon(link->dial_text);
  if (link->dialled() && !duplicate) dial_failed(link->dial_text, why);
  if (link->stage != Link::Stage::kUp) link->stage = Link::Stage::kRefused;
  link->connection->close(why);
}

void Plane::decide_held(const std::string& node) {
  const auto links = links_;
  for (const LinkPtr& link : links) {
    if (link->stage == Link::Stage::kHeld && link->theirs.node == node &&
        !link->connection->closed() && !stopped_) {
      decide(link);
    }
  }
}

void Plane::heard(const LinkPtr& link) {
  const Duration silence = link->liveness.silence(now());
  if (!link->liveness.heard(now()) || !link->up()) return;
  log::info("peer is heard again peer={} silence_ms={:.0f}", link->name(), to_ms(silence));
  schedule_tick();
  events_.on_resumed(*link);
}

void Plane::on_closed(const LinkPtr& link, const Status& why) {
  links_.erase(link);
  link->deadline.cancel();
  if (link->stage == Link::Stage::kUp) return down(link, why);
  if (link->stage != Link::Stage::kRefused && link->stage != Link::Stage::kDown && !stopped_) {
    log::warn("control connection closed before it was up peer={} remote={} why=\"{}\"",
              link->name(), link->connection->remote(), why.to_string());
    link->stage = Link::Stage::kDown;
  }
  if (!link->dialled()) return;
  const auto dialling = dials_.find(link->dial_text);
  if (dialling != dials_.end() && dialling->second.link == link) {
    dial_failed(link->dial_text, Status(why.code(), link->name() + ": " + why.message()));
  }
}

// The end of a link that was up: told once, and before anything of a later link.
void Plane::down(const LinkPtr& link, const Status& why) {
  if (link->stage != Link::Stage::kUp) return;
  link->stage = Link::Stage::kDown;
  link->connection->close(why);
  const std::string& node = link->theirs.node;
  if (const auto found = peers_.find(node); found != peers_.end() && found->second == link) {
    peers_.erase(found);
    std::erase_if(aliases_, [&](const auto& alias) { return alias.second == node; });
  }
  connections_.Set(static_cast<double>(peers_.size()));
  log::info("control connection is down peer={} why=\"{}\"", node, why.to_string());
  events_.on_down(*link, why);
}

}  // namespace baton::control
