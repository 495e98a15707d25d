#include "transfer/tcp/tcp_endpoint.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <list>

#include "transfer/base/log.h"
#include "transfer/control/dial.h"
#include "transfer/tcp/records.h"
#include "transfer/tcp/tcp_channel.h"

namespace baton::tcp {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;
using OpenDone = ChannelEndpoint::OpenDone;

// The roles in proofs.
constexpr std::string_view kDialler = "tcp dialler";
constexpr std::string_view kListener = "tcp listener";

// A proof holds for one lane of one opening.
std::string label_of(std::string_view role, const Greeting& greeting) {
  return std::string(role) + " " + std::to_string(greeting.opening) + " lane " +
         std::to_string(greeting.lane) + " of " + std::to_string(greeting.lanes);
}

constexpr size_t kMaxGreeting = 1024;  // accepted connections that belong to no channel yet
constexpr auto kAcceptAgainAfter = std::chrono::milliseconds(20);

// A connection until it is a lane.
struct Greeter {
  explicit Greeter(tcp::socket connected)
      : socket(std::move(connected)), deadline(socket.get_executor()) {}
  void close() {
    deadline.cancel();
    error_code ignored;
    socket.close(ignored);
  }
  // Its dialler gave it up while it waited.
  bool hung_up() {
    std::byte next;
    return ::recv(socket.native_handle(), &next, sizeof next, MSG_PEEK | MSG_DONTWAIT) == 0;
  }
  tcp::socket socket;
  boost::asio::steady_timer deadline;  // of accepted ones
  GreetingBytes in{};
  GreetingBytes out{};
  Greeting theirs;
  bool greeted = false;
};
using GreeterPtr = std::shared_ptr<Greeter>;

// One side of open().
struct Opening {
  Opening(boost::asio::io_context& io, const protocol::Hello& peer, bool dials,
          ChannelEvents& events, OpenDone done)
      : peer(peer), dials(dials), events(events), done(std::move(done)), deadline(io) {}
  const protocol::Hello peer;
  const bool dials;
  ChannelEvents& events;
  OpenDone done;  // null once called
  boost::asio::steady_timer deadline;
  const uint64_t number = random_u64();
  std::vector<std::shared_ptr<control::Dial>> dialling;
  std::vector<GreeterPtr> lanes;  // dialled, by lane; null: not connected yet
};
using OpeningPtr = std::shared_ptr<Opening>;

class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  Endpoint(boost::asio::io_context& io, TcpConfig config, ChannelIdentity identity,
           ChannelMemory memory)
      : io_(io),
        config_(std::move(config)),
        identity_(std::move(identity)),
        memory_(std::move(memory)),
        acceptor_(io),
        accept_again_(io) {}

  Status listen(const std::string& host);
  uint16_t port() const { return port_; }
  void open(const protocol::Hello& peer, bool dial, ChannelEvents& events, OpenDone done);
  void give_up(const ChannelEvents& events);
  void stop();

 private:
  void accept();
  void accepted(tcp::socket socket);
  void drop(const GreeterPtr& greeter, const char* why);
  void read_greeting(const GreeterPtr& greeter, std::function<void(const Status&)> then);
  void greeted_by_dialler(const GreeterPtr& greeter, const Status& status);
  void refuse(const GreeterPtr& greeter);
  void answer_if_complete(const OpeningPtr& opening, uint64_t number);
  void dial(const OpeningPtr& opening);
  void connected(const OpeningPtr& opening, uint16_t lane, Result<tcp::socket> socket);
  void greeted_by_listener(const OpeningPtr& opening, const GreeterPtr& greeter,
                           const Status& status);
  Status check_answer(const Opening& opening, const Greeter& greeter) const;
  void greet(const GreeterPtr& greeter, const Opening& opening, std::string_view role,
             Greeting greeting, std::function<void(const Status&)> then);
  void complete(const OpeningPtr& opening, std::vector<GreeterPtr> lanes);
  void fail(const OpeningPtr& opening, Status why);

  boost::asio::io_context& io_;
  const TcpConfig config_;
  const ChannelIdentity identity_;
  const ChannelMemory memory_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer accept_again_;
  uint16_t port_ = 0;
  // Newest first: where one peer came back, the connection that is gone is the older one.
  std::list<OpeningPtr> openings_;
  std::list<GreeterPtr> greeters_;  // accepted
  std::list<std::weak_ptr<ChannelCore>> channels_;
  bool stopped_ = false;
};

Status Endpoint::listen(const std::string& host) {
  BATON_RETURN_IF_ERROR(validate(config_));
  const HostPort address{host, config_.port};
  const auto failed = [&](const error_code& error) {
    return Status(Code::kInternal,
                  "tcp channel: listen on " + address.to_string() + ": " + error.message(),
                  error.value());
  };
  error_code error;
  tcp::resolver resolver(io_);
  const auto found =
      resolver.resolve(host, std::to_string(config_.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) return failed(error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return failed(error);
  port_ = acceptor_.local_endpoint().port();
  accept();
  return ok_status();
}

void Endpoint::accept() {
  acceptor_.async_accept([weak = weak_from_this()](const error_code& error, tcp::socket socket) {
    const auto self = weak.lock();
    if (!self || self->stopped_) return;
    if (!error) {
      self->accepted(std::move(socket));
      return self->accept();
    }
    if (error == boost::asio::error::connection_aborted) return self->accept();
    log::error("cannot accept tcp channels why=\"{}\"", error.message());
    self->accept_again_.expires_after(kAcceptAgainAfter);
    self->accept_again_.async_wait([weak](const error_code& cancelled) {
      const auto self = weak.lock();
      if (!cancelled && self && !self->stopped_) self->accept();
    });
  });
}

void Endpoint::accepted(tcp::socket socket) {
  if (greeters_.size() >= kMaxGreeting) {
    log::warn("tcp channel turned away why=\"too many are being opened\"");
    return;
  }
  const auto greeter = std::make_shared<Greeter>(std::move(socket));
  greeters_.push_front(greeter);
  greeter->deadline.expires_after(config_.open_deadline);
  greeter->deadline.async_wait([weak = weak_from_this(), greeter](const error_code& cancelled) {
    const auto self = weak.lock();
    if (cancelled || !self) return;
    self->drop(greeter, greeter->greeted ? "nobody here opened it in time, or a lane is missing"
                                         : "no greeting in time");
  });
  read_greeting(greeter, [weak = weak_from_this(), greeter](const Status& status) {
    if (const auto self = weak.lock()) self->greeted_by_dialler(greeter, status);
  });
}

void Endpoint::drop(const GreeterPtr& greeter, const char* why) {
  greeters_.remove(greeter);
  log::warn("tcp channel closed why=\"{}\"", why);
  greeter->close();
}

void Endpoint::read_greeting(const GreeterPtr& greeter, std::function<void(const Status&)> then) {
  boost::asio::async_read(
      greeter->socket, boost::asio::buffer(greeter->in),
      [greeter, then = std::move(then)](const error_code& error, size_t) {
        if (!greeter->socket.is_open()) return;  // closed by us
        if (error) {
          const bool closed = error == boost::asio::error::eof;
          return then(Status(Code::kUnavailable,
                             "tcp channel: " + (closed ? "the peer closed it" : error.message()),
                             error.value()));
        }
        auto greeting = decode_greeting(greeter->in);
        if (greeting.ok()) greeter->theirs = *greeting;
        then(greeting.status());
      });
}

void Endpoint::greeted_by_dialler(const GreeterPtr& greeter, const Status& status) {
  const Greeting& theirs = greeter->theirs;
  const bool known = status.ok() && !theirs.refusal && theirs.nonce == identity_.nonce &&
                     theirs.to == identity_.self;
  const bool taken = known && std::any_of(greeters_.begin(), greeters_.end(), [&](const auto& g) {
                       return g->greeted && g->theirs.from == theirs.from &&
                              g->theirs.opening == theirs.opening && g->theirs.lane == theirs.lane;
                     });
  if (!known || taken) {
    if (status.ok()) refuse(greeter);
    drop(greeter, !status.ok() ? status.message().c_str()
                  : taken      ? "the same lane twice"
                               : "it shows another nonce or incarnation");
    return;
  }
  greeter->greeted = true;
  for (const OpeningPtr& opening : openings_) {
    if (!opening->dials && opening->peer.incarnation == theirs.from)
      return answer_if_complete(OpeningPtr(opening), theirs.opening);
  }
}

// The dialler is gone all the same where this does not reach it.
void Endpoint::refuse(const GreeterPtr& greeter) {
  greeter->out = encode(Greeting{.refusal = true, .from = identity_.self});
  error_code ignored;
  greeter->socket.non_blocking(true, ignored);
  greeter->socket.send(boost::asio::buffer(greeter->out), 0, ignored);
}

// The listening side: open() was called, and all lanes of one opening have greeted.
void Endpoint::answer_if_complete(const OpeningPtr& opening, uint64_t number) {
  std::vector<GreeterPtr> lanes;
  for (const GreeterPtr& greeter : greeters_)
    if (greeter->greeted && greeter->theirs.from == opening->peer.incarnation &&
        greeter->theirs.opening == number && !greeter->hung_up())
      lanes.push_back(greeter);
  std::erase_if(lanes, [this](const GreeterPtr& greeter) {
    const Greeting& theirs = greeter->theirs;
    if (identity_.verify(theirs.proof, label_of(kDialler, theirs), theirs.from)) return false;
    refuse(greeter);
    drop(greeter, "it does not prove that it has the token");
    return true;
  });
  if (lanes.empty() || lanes.size() != lanes.front()->theirs.lanes) return;
  for (const GreeterPtr& greeter : lanes) {
    greeters_.remove(greeter);
    greeter->deadline.cancel();
    Greeting greeting = greeter->theirs;  // opening, lane and lanes are the dialler's
    greet(greeter, *opening, kListener, greeting,
          [](const Status&) {});  // a lane that fails ends the channel
  }
  std::sort(lanes.begin(), lanes.end(), [](const GreeterPtr& a, const GreeterPtr& b) {
    return a->theirs.lane < b->theirs.lane;
  });
  complete(opening, std::move(lanes));
}

void Endpoint::greet(const GreeterPtr& greeter, const Opening& opening, std::string_view role,
                     Greeting greeting, std::function<void(const Status&)> then) {
  greeting.nonce = opening.peer.channel_nonce;
  greeting.from = identity_.self;
  greeting.to = opening.peer.incarnation;
  greeting.proof = identity_.prove(label_of(role, greeting), opening.peer);
  greeter->out = encode(greeting);
  // The socket may have become a lane's before the greeting is out: it is written at once, into a
  // buffer that is empty, so that nothing can come before it.
  error_code error;
  greeter->socket.non_blocking(true, error);
  const size_t sent = error ? 0 : greeter->socket.send(boost::asio::buffer(greeter->out), 0, error);
  if (!error && sent != greeter->out.size()) error = boost::asio::error::would_block;
  then(error
           ? Status(Code::kUnavailable, "tcp channel: greeting: " + error.message(), error.value())
           : ok_status());
}

void Endpoint::dial(const OpeningPtr& opening) {
  const auto node = parse_node_address(opening->peer.node);
  if (!node.ok()) return fail(opening, node.status());
  const HostPort address{node->front().host, opening->peer.tcp_port};
  opening->lanes.resize(config_.lanes);
  for (uint16_t lane = 0; lane < config_.lanes; ++lane)
    opening->dialling.push_back(control::Dial::start(
        io_, address, [weak = weak_from_this(), opening, lane](Result<tcp::socket> socket) {
          if (const auto self = weak.lock()) self->connected(opening, lane, std::move(socket));
        }));
}

void Endpoint::connected(const OpeningPtr& opening, uint16_t lane, Result<tcp::socket> socket) {
  if (!opening->done) return;  // given up meanwhile
  if (!socket.ok())
    return fail(opening, Status(Code::kUnavailable, "tcp channel: " + socket.status().message()));
  const auto greeter = std::make_shared<Greeter>(std::move(*socket));
  opening->lanes[lane] = greeter;
  greet(greeter, *opening, kDialler,
        Greeting{.opening = opening->number, .lane = lane, .lanes = config_.lanes},
        [&](const Status& status) {
          if (!status.ok()) fail(opening, status);
        });
  if (!opening->done) return;
  read_greeting(greeter, [weak = weak_from_this(), opening, greeter](const Status& status) {
    if (const auto self = weak.lock()) self->greeted_by_listener(opening, greeter, status);
  });
}

void Endpoint::greeted_by_listener(const OpeningPtr& opening, const GreeterPtr& greeter,
                                   const Status& status) {
  if (!opening->done) return;
  Status checked = status.ok() ? check_answer(*opening, *greeter) : status;
  if (!checked.ok()) return fail(opening, std::move(checked));
  greeter->greeted = true;
  const bool all = std::all_of(opening->lanes.begin(), opening->lanes.end(),
                               [](const GreeterPtr& lane) { return lane && lane->greeted; });
  if (all) complete(opening, std::move(opening->lanes));
}

Status Endpoint::check_answer(const Opening& opening, const Greeter& greeter) const {
  const Greeting& theirs = greeter.theirs;
  if (theirs.refusal) {
    return Status(Code::kRefused,
                  "tcp channel: the peer does not know the nonce, incarnation or token");
  }
  if (theirs.nonce != identity_.nonce || theirs.from != opening.peer.incarnation ||
      theirs.to != identity_.self || theirs.opening != opening.number) {
    return Status(Code::kRefused, "tcp channel: incarnation " +
                                      std::to_string(opening.peer.incarnation.value) +
                                      " was expected and " + std::to_string(theirs.from.value) +
                                      " answered, or its nonce is wrong");
  }
  if (!identity_.verify(theirs.proof, label_of(kListener, theirs), theirs.from))
    return Status(Code::kRefused, "tcp channel: the peer does not prove that it has the token");
  return ok_status();
}

void Endpoint::complete(const OpeningPtr& opening, std::vector<GreeterPtr> lanes) {
  openings_.remove(opening);
  opening->deadline.cancel();
  std::vector<tcp::socket> sockets;
  for (const GreeterPtr& greeter : lanes) {
    error_code error;
    const auto remote = greeter->socket.remote_endpoint(error);
    set_lane_options(greeter->socket.native_handle(), config_,
                     !error && remote.address().is_loopback());
    sockets.push_back(std::move(greeter->socket));
  }
  const auto core =
      std::make_shared<ChannelCore>(std::move(sockets), config_, memory_, opening->events);
  std::erase_if(channels_, [](const auto& channel) { return channel.expired(); });
  channels_.push_back(core);
  // Not inside open(); and nothing arrives before the owner has its channel.
  boost::asio::post(io_, [done = std::exchange(opening->done, nullptr), core] {
    done(make_channel(core));
    core->start();
  });
}

void Endpoint::fail(const OpeningPtr& opening, Status why) {
  if (!opening->done) return;
  openings_.remove(opening);
  opening->deadline.cancel();
  for (const auto& dial : opening->dialling) dial->cancel();
  for (const GreeterPtr& greeter : opening->lanes)
    if (greeter) greeter->close();
  boost::asio::post(
      io_, [done = std::exchange(opening->done, nullptr), why = std::move(why)] { done(why); });
}

void Endpoint::open(const protocol::Hello& peer, bool dial, ChannelEvents& events, OpenDone done) {
  const auto opening = std::make_shared<Opening>(io_, peer, dial, events, std::move(done));
  openings_.push_front(opening);
  if (stopped_)
    return fail(opening, Status(Code::kUnavailable, "tcp channel: this node is shutting down"));
  if (peer.tcp_port == 0)
    return fail(opening, Status(Code::kUnavailable,
                                "tcp channel: node " + peer.node + " has no port for it"));
  opening->deadline.expires_after(config_.open_deadline);
  opening->deadline.async_wait(
      [weak = weak_from_this(), opening, dial](const error_code& cancelled) {
        const auto self = weak.lock();
        if (cancelled || !self) return;
        self->fail(opening, Status(Code::kDeadlineExceeded,
                                   dial ? "tcp channel: the peer did not answer in time"
                                        : "tcp channel: the peer did not dial in time"));
      });
  if (dial) return this->dial(opening);
  const auto greeters = greeters_;  // answering takes them out
  for (const GreeterPtr& greeter : greeters)
    if (opening->done && greeter->greeted && greeter->theirs.from == peer.incarnation)
      answer_if_complete(opening, greeter->theirs.opening);
}

void Endpoint::give_up(const ChannelEvents& events) {
  const auto found = std::find_if(openings_.begin(), openings_.end(),
                                  [&](const OpeningPtr& each) { return &each->events == &events; });
  if (found != openings_.end())
    fail(OpeningPtr(*found), Status(Code::kCancelled, "tcp channel: it is not wanted any more"));
}

void Endpoint::stop() {
  if (std::exchange(stopped_, true)) return;
  error_code ignored;
  acceptor_.close(ignored);
  accept_again_.cancel();
  const Status why(Code::kUnavailable, "this node is shutting down");
  while (!openings_.empty()) fail(OpeningPtr(openings_.front()), why);
  for (const GreeterPtr& greeter : greeters_) greeter->close();
  greeters_.clear();
  for (const auto& weak : channels_)
    if (const auto channel = weak.lock()) channel->close(why);
}

class TcpEndpointImpl final : public TcpEndpoint {
 public:
  explicit TcpEndpointImpl(std::shared_ptr<Endpoint> endpoint) : endpoint_(std::move(endpoint)) {}
  ~TcpEndpointImpl() override { endpoint_->stop(); }

  uint16_t port() const override { return endpoint_->port(); }
  std::string_view name() const override { return "tcp"; }
  void describe(protocol::Hello& hello) const override { hello.tcp_port = endpoint_->port(); }
  bool offered(const protocol::Hello& peer) const override { return peer.tcp_port != 0; }
  void open(const protocol::Hello& peer, bool dial, ChannelEvents& events, OpenDone done) override {
    endpoint_->open(peer, dial, events, std::move(done));
  }
  void give_up(const ChannelEvents& events) override { endpoint_->give_up(events); }
  void stop() override { endpoint_->stop(); }

 private:
  const std::shared_ptr<Endpoint> endpoint_;
};

}  // namespace

Result<std::unique_ptr<TcpEndpoint>> TcpEndpoint::create(boost::asio::io_context& io,
                                                         TcpConfig config, const std::string& host,
                                                         ChannelIdentity identity,
                                                         ChannelMemory memory) {
  auto endpoint = std::make_shared<Endpoint>(io, std::move(config), identity, std::move(memory));
  BATON_RETURN_IF_ERROR(endpoint->listen(host));
  return std::unique_ptr<TcpEndpoint>(std::make_unique<TcpEndpointImpl>(std::move(endpoint)));
}

}  // namespace baton::tcp
