#include "transfer/local/local_endpoint.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>

#include "transfer/base/log.h"
#include "transfer/local/local_channel.h"
#include "transfer/local/unix_socket.h"

namespace baton::local {
namespace {

using boost::system::error_code;
using Stream = boost::asio::local::stream_protocol;
using OpenDone = ChannelEndpoint::OpenDone;

// The roles in proofs.
constexpr std::string_view kDialler = "local dialler";
constexpr std::string_view kListener = "local listener";
constexpr size_t kMaxGreeting = 256;  // accepted connections that no open() has taken yet
constexpr auto kAcceptAgainAfter = std::chrono::milliseconds(20);

// A connected socket until its greetings are through.
struct Greeter {
  Greeter(boost::asio::io_context& io, UniqueFd fd)
      : socket(io, Stream(), fd.release()), deadline(io) {}
  void close() {
    deadline.cancel();
    error_code ignored;
    socket.close(ignored);
  }

  Stream::socket socket;
  boost::asio::steady_timer deadline;  // of accepted ones
  GreetingReader reader;
  Greeting theirs;
  std::vector<UniqueFd> descriptors;
  bool greeted = false;  // accepted, and waiting for its open()

  // Its dialler gave it up while it waited.
  bool hung_up() {
    std::byte next;
    return ::recv(socket.native_handle(), &next, sizeof next, MSG_PEEK | MSG_DONTWAIT) == 0;
  }
};

// One side of open(): what was asked for, and when it is given up.
struct Opening {
  Opening(boost::asio::io_context& io, const protocol::Hello& hello, bool dials,
          ChannelEvents& events, OpenDone done)
      : hello(hello), dials(dials), events(events), done(std::move(done)), deadline(io) {}
  const protocol::Hello hello;
  const bool dials;
  ChannelEvents& events;
  OpenDone done;  // null once called
  boost::asio::steady_timer deadline;
  std::shared_ptr<Greeter> greeter;  // that was dialled
};

class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  Endpoint(boost::asio::io_context& io, LocalConfig config, ChannelIdentity identity,
           ChannelMemory memory)
      : io_(io),
        config_(config),
        identity_(std::move(identity)),
        self_(identity_.self),
        name_("baton-" + HandoffId::random().to_string()),
        nonce_(identity_.nonce),
        own_{std::move(memory), config.max_published, config.max_staged_bytes},
        acceptor_(io),
        accept_again_(io) {}

  Status listen();
  void open(const protocol::Hello& hello, bool dial, ChannelEvents& events, OpenDone done);
  void give_up(const ChannelEvents& events);
  void stop();
  const std::string& name() const { return name_; }

 private:
  using OpeningPtr = std::shared_ptr<Opening>;
  using GreeterPtr = std::shared_ptr<Greeter>;

  void accept();
  void accepted(UniqueFd fd);
  void read_greeting(const GreeterPtr& greeter, std::function<void(const Status&)> then);
  void greeted_by_dialler(const GreeterPtr& greeter, const Status& status);
  bool answer(const OpeningPtr& opening, const GreeterPtr& greeter);
  void turn_away(const GreeterPtr& greeter, bool greeted, const std::string& why);
  Status dial(const OpeningPtr& opening);
  void greeted_by_listener(const OpeningPtr& opening, const GreeterPtr& greeter,
                           const Status& status);
  Status check_answer(const Opening& opening, const Greeting& theirs) const;
  void complete(const OpeningPtr& opening, const GreeterPtr& greeter);
  void fail(const OpeningPtr& opening, Status why);
  Greeting greeting_to(const protocol::Hello& to, std::string_view role) const;
  Status greet(const GreeterPtr& greeter, const protocol::Hello& to, std::string_view role);

  boost::asio::io_context& io_;
  const LocalConfig config_;
  const ChannelIdentity identity_;
  const Incarnation self_;
  const std::string name_;
  const uint64_t nonce_;
  const OwnMemory own_;
  Stream::acceptor acceptor_;
  boost::asio::steady_timer accept_again_;
  // Newest first: where one peer came back, the connection that is gone is the older one.
  std::list<OpeningPtr> openings_;
  std::list<GreeterPtr> greeters_;  // accepted
  std::list<std::weak_ptr<ChannelCore>> channels_;
  bool stopped_ = false;
};

Status Endpoint::listen() {
  if (config_.max_published == 0 || config_.max_published > kMaxPublished) {
    return Status(Code::kInvalidArgument, "max_published is " +
                                              std::to_string(config_.max_published) +
                                              ": expected 1 to " + std::to_string(kMaxPublished));
  }
  BATON_ASSIGN_OR_RETURN(UniqueFd fd, listen_abstract(name_));
  acceptor_.assign(Stream(), fd.release());
  accept();
  return ok_status();
}

void Endpoint::accept() {
  acceptor_.async_accept([weak = weak_from_this()](const error_code& error, Stream::socket socket) {
    const auto self = weak.lock();
    if (!self || self->stopped_) return;
    if (!error) {
      self->accepted(UniqueFd(socket.release()));
      return self->accept();
    }
    log::error("cannot accept local channels why=\"{}\"", error.message());
    self->accept_again_.expires_after(kAcceptAgainAfter);
    self->accept_again_.async_wait([weak](const error_code& cancelled) {
      const auto self = weak.lock();
      if (!cancelled && self && !self->stopped_) self->accept();
    });
  });
}

void Endpoint::accepted(UniqueFd fd) {
  Status status = check_same_user(fd.get());
  if (status.ok() && greeters_.size() >= kMaxGreeting) {
    status = Status(Code::kResourceExhausted, "too many local channels are being opened");
  }
  if (!status.ok()) {
    log::warn("local channel turned away why=\"{}\"", status.message());
    return;
  }
  const auto greeter = std::make_shared<Greeter>(io_, std::move(fd));
  greeters_.push_front(greeter);
  greeter->deadline.expires_after(config_.open_deadline);
  greeter->deadline.async_wait([weak = weak_from_this(), greeter](const error_code& cancelled) {
    const auto self = weak.lock();
    if (cancelled || !self) return;
    self->greeters_.remove(greeter);
    log::warn("local channel closed why=\"{}\"",
              greeter->greeted ? "nobody here opened it in time" : "no greeting in time");
    greeter->close();
  });
  read_greeting(greeter, [weak = weak_from_this(), greeter](const Status& status) {
    if (const auto self = weak.lock()) self->greeted_by_dialler(greeter, status);
  });
}

void Endpoint::read_greeting(const GreeterPtr& greeter, std::function<void(const Status&)> then) {
  greeter->socket.async_wait(
      Stream::socket::wait_read,
      [weak = weak_from_this(), greeter, then = std::move(then)](const error_code& error) {
        const auto self = weak.lock();
        if (error || !self || !greeter->socket.is_open()) return;  // closed by us
        const auto whole = greeter->reader.read(greeter->socket.native_handle());
        if (!whole.ok()) return then(whole.status());
        if (!*whole) return self->read_greeting(greeter, then);
        auto greeting = greeter->reader.take(greeter->descriptors);
        if (greeting.ok()) greeter->theirs = *greeting;
        then(greeting.status());
      });
}

void Endpoint::greeted_by_dialler(const GreeterPtr& greeter, const Status& status) {
  const Greeting& theirs = greeter->theirs;
  const bool known = status.ok() && !theirs.refusal && theirs.nonce == nonce_ && theirs.to == self_;
  if (!known) {
    return turn_away(greeter, status.ok(),
                     status.ok() ? "it shows another nonce or incarnation" : status.message());
  }
  greeter->greeted = true;
  for (const OpeningPtr& opening : openings_) {
    if (!opening->dials && opening->hello.incarnation == theirs.from) {
      answer(OpeningPtr(opening), greeter);
      return;
    }
  }
}

void Endpoint::turn_away(const GreeterPtr& greeter, bool greeted, const std::string& why) {
  greeters_.remove(greeter);
  log::warn("local channel refused why=\"{}\"", why);
  Greeting refusal;
  refusal.refusal = true;
  refusal.from = self_;
  // It is gone all the same where this does not reach it.
  if (greeted) (void)send_greeting(greeter->socket.native_handle(), refusal, {});
  greeter->close();
}

Greeting Endpoint::greeting_to(const protocol::Hello& to, std::string_view role) const {
  Greeting greeting{.nonce = to.channel_nonce,
                    .from = self_,
                    .to = to.incarnation,
                    .max_published = own_.max_published,
                    .proof = identity_.prove(role, to)};
  const auto describe = [](const std::shared_ptr<SlotPool>& pool) {
    return pool ? Geometry{pool->arena().bytes(), pool->slot_bytes()} : Geometry{};
  };
  greeting.arenas = {describe(own_.transit), describe(own_.retained)};
  return greeting;
}

Status Endpoint::greet(const GreeterPtr& greeter, const protocol::Hello& to,
                       std::string_view role) {
  std::vector<int> descriptors;
  if (own_.transit) descriptors.push_back(own_.transit->arena().fd());
  if (own_.retained) descriptors.push_back(own_.retained->arena().fd());
  return send_greeting(greeter->socket.native_handle(), greeting_to(to, role), descriptors);
}

// The listening side: both open() and the dialler's greeting are there. False where that one was
// turned away, and the open() still waits for its peer.
bool Endpoint::answer(const OpeningPtr& opening, const GreeterPtr& greeter) {
  if (!identity_.verify(greeter->theirs.proof, kDialler, greeter->theirs.from)) {
    turn_away(greeter, true, "it does not prove that it has the token");
    return false;
  }
  greeters_.remove(greeter);
  greeter->deadline.cancel();
  const Status sent = greet(greeter, opening->hello, kListener);
  sent.ok() ? complete(opening, greeter) : fail(opening, sent);
  return true;
}

Status Endpoint::dial(const OpeningPtr& opening) {
  BATON_ASSIGN_OR_RETURN(UniqueFd fd, connect_abstract(opening->hello.local_socket));
  BATON_RETURN_IF_ERROR(check_same_user(fd.get()));
  const auto greeter = std::make_shared<Greeter>(io_, std::move(fd));
  opening->greeter = greeter;
  BATON_RETURN_IF_ERROR(greet(greeter, opening->hello, kDialler));
  read_greeting(greeter, [weak = weak_from_this(), opening, greeter](const Status& status) {
    if (const auto self = weak.lock()) self->greeted_by_listener(opening, greeter, status);
  });
  return ok_status();
}

void Endpoint::greeted_by_listener(const OpeningPtr& opening, const GreeterPtr& greeter,
                                   const Status& status) {
  if (!opening->done) return;  // given up meanwhile
  Status checked = status.ok() ? check_answer(*opening, greeter->theirs) : status;
  checked.ok() ? complete(opening, greeter) : fail(opening, std::move(checked));
}

Status Endpoint::check_answer(const Opening& opening, const Greeting& theirs) const {
  if (theirs.refusal) {
    return Status(Code::kRefused,
                  "local channel: the peer does not know the nonce, incarnation or token");
  }
  if (theirs.nonce != nonce_ || theirs.from != opening.hello.incarnation || theirs.to != self_) {
    return Status(Code::kRefused, "local channel: incarnation " +
                                      std::to_string(opening.hello.incarnation.value) +
                                      " was expected and " + std::to_string(theirs.from.value) +
                                      " answered, or its nonce is wrong");
  }
  if (!identity_.verify(theirs.proof, kListener, theirs.from)) {
    return Status(Code::kRefused, "local channel: the peer does not prove that it has the token");
  }
  return ok_status();
}

void Endpoint::complete(const OpeningPtr& opening, const GreeterPtr& greeter) {
  auto memory = std::make_shared<PeerMemory>();
  memory->geometry = greeter->theirs.arenas;
  size_t next = 0;
  for (size_t i = 0; i < kArenas; ++i) {
    if (memory->geometry[i].arena_bytes == 0) continue;
    auto arena =
        PeerArena::map(std::move(greeter->descriptors[next++]), memory->geometry[i].arena_bytes);
    if (!arena.ok()) return fail(opening, arena.status());
    memory->arenas[i] = std::move(*arena);
  }
  const auto core =
      std::make_shared<ChannelCore>(std::move(greeter->socket), own_, std::move(memory),
                                    greeter->theirs.max_published, opening->events);
  std::erase_if(channels_, [](const auto& channel) { return channel.expired(); });
  channels_.push_back(core);
  openings_.remove(opening);
  opening->deadline.cancel();
  opening->greeter = nullptr;
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
  if (const auto greeter = std::exchange(opening->greeter, nullptr)) greeter->close();
  boost::asio::post(
      io_, [done = std::exchange(opening->done, nullptr), why = std::move(why)] { done(why); });
}

void Endpoint::open(const protocol::Hello& hello, bool dial, ChannelEvents& events, OpenDone done) {
  const auto opening = std::make_shared<Opening>(io_, hello, dial, events, std::move(done));
  if (stopped_) {
    return fail(opening, Status(Code::kUnavailable, "local channel: this node is shutting down"));
  }
  if (!dial) {
    const auto greeters = greeters_;  // answer() changes it
    for (const GreeterPtr& greeter : greeters) {
      const bool theirs = greeter->greeted && greeter->theirs.from == hello.incarnation;
      if (theirs && !greeter->hung_up() && answer(opening, greeter)) return;
    }
  }
  openings_.push_front(opening);
  opening->deadline.expires_after(config_.open_deadline);
  opening->deadline.async_wait(
      [weak = weak_from_this(), opening, dial](const error_code& cancelled) {
        const auto self = weak.lock();
        if (cancelled || !self) return;
        self->fail(opening, Status(Code::kDeadlineExceeded,
                                   dial ? "local channel: the peer did not answer in time"
                                        : "local channel: the peer did not dial in time"));
      });
  if (!dial) return;
  if (Status status = this->dial(opening); !status.ok()) fail(opening, std::move(status));
}

void Endpoint::give_up(const ChannelEvents& events) {
  const auto found = std::find_if(openings_.begin(), openings_.end(),
                                  [&](const OpeningPtr& each) { return &each->events == &events; });
  if (found != openings_.end())
    fail(OpeningPtr(*found), Status(Code::kCancelled, "local channel: it is not wanted any more"));
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
  for (const auto& weak : channels_) {
    if (const auto channel = weak.lock()) channel->close(why);
  }
}

class LocalEndpointImpl final : public LocalEndpoint {
 public:
  explicit LocalEndpointImpl(std::shared_ptr<Endpoint> endpoint) : endpoint_(std::move(endpoint)) {}
  ~LocalEndpointImpl() override { endpoint_->stop(); }

  const std::string& socket_name() const override { return endpoint_->name(); }
  std::string_view name() const override { return "local"; }
  void describe(protocol::Hello& hello) const override { hello.local_socket = endpoint_->name(); }
  bool offered(const protocol::Hello& peer) const override { return !peer.local_socket.empty(); }
  void open(const protocol::Hello& hello, bool dial, ChannelEvents& events,
            OpenDone done) override {
    endpoint_->open(hello, dial, events, std::move(done));
  }
  void give_up(const ChannelEvents& events) override { endpoint_->give_up(events); }
  void stop() override { endpoint_->stop(); }

 private:
  const std::shared_ptr<Endpoint> endpoint_;
};

}  // namespace

Result<std::unique_ptr<LocalEndpoint>> LocalEndpoint::create(boost::asio::io_context& io,
                                                             LocalConfig config,
                                                             ChannelIdentity identity,
                                                             ChannelMemory memory) {
  auto endpoint = std::make_shared<Endpoint>(io, config, identity, std::move(memory));
  BATON_RETURN_IF_ERROR(endpoint->listen());
  return std::unique_ptr<LocalEndpoint>(std::make_unique<LocalEndpointImpl>(std::move(endpoint)));
}

}  // namespace baton::local
