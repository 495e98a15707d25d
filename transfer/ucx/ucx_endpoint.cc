#include "transfer/ucx/ucx_endpoint.h"

#include <algorithm>
#include <bit>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <optional>
#include <unordered_map>

#include "transfer/base/address.h"
#include "transfer/base/log.h"
#include "transfer/ucx/ucp_listener.h"
#include "transfer/ucx/ucx_channel.h"

namespace baton::ucx {
namespace {

using boost::system::error_code;
using OpenDone = ChannelEndpoint::OpenDone;

using boost::asio::ip::tcp;

// The roles in proofs.
constexpr std::string_view kDialler = "ucx dialler";
constexpr std::string_view kListener = "ucx listener";

// A proof holds for one greeting, and an answer's for one that it answers.
std::string label_of(std::string_view role, const Greeting& greeting) {
  return std::string(role) + " " + std::to_string(greeting.token) + " answers " +
         std::to_string(greeting.answered);
}

constexpr size_t kMaxGreeting = 256;  // accepted connections that no open() has taken yet

// One side of open(): what was asked for, and when it is given up.
struct Opening {
  Opening(boost::asio::io_context& io, const protocol::Hello& hello, bool dials,
          ChannelEvents& events, OpenDone done)
      : hello(hello),
        dials(dials),
        events(events),
        done(std::move(done)),
        deadline(io),
        resolver(io) {}
  const protocol::Hello hello;
  const bool dials;
  ChannelEvents& events;
  OpenDone done;  // null once called
  boost::asio::steady_timer deadline;
  tcp::resolver resolver;               // of the one that dials
  std::shared_ptr<UcpEp> ep;            // the same's
  const uint64_t token = random_u64();  // what the peer will show
};
using OpeningPtr = std::shared_ptr<Opening>;

// A connection that a peer made.
struct Accepted {
  explicit Accepted(boost::asio::io_context& io) : deadline(io) {}
  std::shared_ptr<UcpEp> ep;
  boost::asio::steady_timer deadline;
  std::optional<Greeting> greeting;  // which waits for its open()
  OpeningPtr opening;                // that took it
};
using AcceptedPtr = std::shared_ptr<Accepted>;

class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  Endpoint(boost::asio::io_context& io, const UcxConfig& config, ChannelIdentity identity,
           ChannelMemory memory);

  Status start(const std::string& host);
  void describe(protocol::Hello& hello) const;
  void open(const protocol::Hello& hello, bool dial, ChannelEvents& events, OpenDone done);
  void give_up(const ChannelEvents& events);
  void stop();
  const std::vector<std::string>& transports() const { return context_->transports(); }
  uint64_t dropped() const { return dropped_; }

 private:
  ucs_status_t on_message(std::span<const std::byte> header, void* data, size_t bytes,
                          const ucp_am_recv_param_t& param);
  void on_greeting(const Greeting& greeting, const ucp_am_recv_param_t& param);
  void accept_requests();
  void accept(ucp_conn_request_h request);
  void turn_away(const AcceptedPtr& accepted, const char* why);
  void greeted_by_dialler(ucp_ep_h from, const Greeting& greeting);
  void greeted_by_listener(const Greeting& greeting);
  Status dial(const OpeningPtr& opening);
  void connect(const OpeningPtr& opening, const tcp::endpoint& to);
  bool answer(const OpeningPtr& opening, const AcceptedPtr& accepted);
  void refuse(const AcceptedPtr& accepted, const Greeting& greeting, const char* why);
  void greet(const Opening& opening, const std::shared_ptr<UcpEp>& ep, uint64_t answered);
  void complete(const OpeningPtr& opening, std::shared_ptr<UcpEp> ep, const Greeting& theirs);
  void fail(const OpeningPtr& opening, Status why);
  void release(std::shared_ptr<UcpEp> ep);
  std::shared_ptr<ChannelCore> channel_of(uint64_t token);
  bool is_quiet();
  void drop(const char* what);

  boost::asio::io_context& io_;
  const UcxConfig config_;
  const ChannelIdentity self_;
  ChannelSetup setup_;
  std::shared_ptr<UcpContext> context_;
  std::shared_ptr<UcpWorker> worker_;
  UcpListener* listener_ = nullptr;  // the worker's
  uint16_t port_ = 0;
  // Newest first: where one peer came back, the connection that is gone is the older one.
  std::list<OpeningPtr> openings_;
  std::vector<ucp_conn_request_h> requests_;  // not accepted yet
  std::list<AcceptedPtr> accepted_;
  std::unordered_map<uint64_t, std::weak_ptr<ChannelCore>> channels_;  // by the token they see
  std::list<std::shared_ptr<UcpEp>> closing_;                          // that no channel has
  uint64_t dropped_ = 0;
  bool stopped_ = false;
};

Status check(const UcxConfig& config) {
  const auto at_least = [](const char* option, size_t value, size_t least) {
    if (value >= least) return ok_status();
    return Status(Code::kInvalidArgument, std::string(option) + " is " + std::to_string(value) +
                                              ": expected at least " + std::to_string(least));
  };
  BATON_RETURN_IF_ERROR(at_least("ucx message_bytes", config.message_bytes, 4096));
  BATON_RETURN_IF_ERROR(at_least("ucx max_sending_bytes", config.max_sending_bytes, 1));
  return at_least("ucx max_unconsumed_bytes", config.max_unconsumed_bytes, 1);
}

Endpoint::Endpoint(boost::asio::io_context& io, const UcxConfig& config, ChannelIdentity identity,
                   ChannelMemory memory)
    : io_(io), config_(config), self_(std::move(identity)) {
  const size_t segment = memory.transit ? memory.transit->slot_bytes() : 0;
  const uint64_t most = std::max<uint64_t>(config.max_unconsumed_bytes, 2 * charge(segment));
  setup_ = {.memory = std::move(memory),
            .receive_memory = std::make_shared<ReceiveMemory>(most),
            .message_bytes = config.message_bytes,
            .max_sending_bytes = config.max_sending_bytes,
            .max_unconsumed = most,
            .close_deadline = config.close_deadline};
}

Status Endpoint::start(const std::string& host) {
  BATON_RETURN_IF_ERROR(check(config_));
  BATON_ASSIGN_OR_RETURN(context_, UcpContext::create(config_));
  BATON_ASSIGN_OR_RETURN(
      worker_,
      UcpWorker::create(io_, context_, config_.spin,
                        [weak = weak_from_this()](std::span<const std::byte> header, void* data,
                                                  size_t bytes, const ucp_am_recv_param_t& param) {
                          const auto self = weak.lock();
                          return self ? self->on_message(header, data, bytes, param) : UCS_OK;
                        }));
  error_code error;
  const auto found =
      tcp::resolver(io_).resolve(host, std::to_string(config_.port),
                                 tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error)
    return Status(Code::kInvalidArgument,
                  "channel ucx: the address to listen at is " + host + ": " + error.message(),
                  error.value());
  BATON_ASSIGN_OR_RETURN(
      listener_, worker_->listen(found.begin()->endpoint(), [this](ucp_conn_request_h request) {
        requests_.push_back(request);
        worker_->later([weak = weak_from_this()] {
          if (const auto self = weak.lock()) self->accept_requests();
        });
      }));
  port_ = listener_->port();
  return ok_status();
}

void Endpoint::describe(protocol::Hello& hello) const {
  hello.ucx_address = std::to_string(port_);
  hello.ucx_transports.clear();
  for (const std::string& name : transports())
    hello.ucx_transports += (hello.ucx_transports.empty() ? "" : ",") + name;
}

// --- messages, inside UCX

ucs_status_t Endpoint::on_message(std::span<const std::byte> header, void* data, size_t bytes,
                                  const ucp_am_recv_param_t& param) {
  const auto record = decode(header);
  if (!record.ok()) {
    drop("no message of ours");
    return UCS_OK;
  }
  if (const auto* greeting = std::get_if<Greeting>(&*record)) {
    on_greeting(*greeting, param);
    return UCS_OK;
  }
  const uint64_t token = std::visit([](const auto& r) { return r.token; }, *record);
  const auto channel = channel_of(token);
  if (!channel) {
    drop("no channel of this token");
    return UCS_OK;
  }
  if (const auto* piece = std::get_if<Piece>(&*record))
    return channel->on_piece(*piece, data, bytes, param);
  if (const auto* consumed = std::get_if<Consumed>(&*record))
    channel->on_consumed(*consumed);
  else
    channel->on_bye();
  return UCS_OK;
}

std::shared_ptr<ChannelCore> Endpoint::channel_of(uint64_t token) {
  const auto found = channels_.find(token);
  return found == channels_.end() ? nullptr : found->second.lock();
}

void Endpoint::drop(const char* what) {
  ++dropped_;
  // Whoever sends these can send many: the first, second, fourth, eighth … are logged.
  if (std::has_single_bit(dropped_))
    log::warn("ucx message dropped why=\"{}\" dropped={}", what, dropped_);
}

void Endpoint::on_greeting(const Greeting& greeting, const ucp_am_recv_param_t& param) {
  if (greeting.refusal || greeting.answered != 0) {
    worker_->later([weak = weak_from_this(), greeting] {
      if (const auto self = weak.lock()) self->greeted_by_listener(greeting);
    });
    return;
  }
  if ((param.recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0)
    return drop("a greeting without a way to answer");
  worker_->later([weak = weak_from_this(), greeting, from = param.reply_ep] {
    if (const auto self = weak.lock()) self->greeted_by_dialler(from, greeting);
  });
}

// --- opening: the listening side

void Endpoint::accept_requests() {
  for (const ucp_conn_request_h request : std::exchange(requests_, {})) accept(request);
}

void Endpoint::accept(ucp_conn_request_h request) {
  if (accepted_.size() >= kMaxGreeting) {
    log::warn("ucx channel turned away why=\"too many are being opened\"");
    return listener_->reject(request);
  }
  const auto accepted = std::make_shared<Accepted>(io_);
  auto ep = UcpEp::accept(worker_, request, [weak = weak_from_this(), accepted](const Status& why) {
    const auto self = weak.lock();
    if (!self) return;
    if (!accepted->opening) return self->turn_away(accepted, "it went");
    if (const auto channel = self->channel_of(accepted->opening->token)) channel->close(why);
  });
  if (!ep.ok()) return log::warn("ucx channel not accepted why=\"{}\"", ep.status().message());
  accepted->ep = std::move(*ep);
  accepted_.push_front(accepted);
  accepted->deadline.expires_after(config_.open_deadline);
  accepted->deadline.async_wait([weak = weak_from_this(), accepted](const error_code& cancelled) {
    const auto self = weak.lock();
    if (cancelled || !self) return;
    self->turn_away(accepted, accepted->greeting ? "nobody here opened it in time"
                                                 : "no greeting that is right in time");
  });
}

void Endpoint::turn_away(const AcceptedPtr& accepted, const char* why) {
  if (!accepted->ep) return;
  log::warn("ucx channel closed why=\"{}\"", why);
  accepted_.remove(accepted);
  accepted->deadline.cancel();
  release(std::exchange(accepted->ep, nullptr));
}

void Endpoint::greeted_by_dialler(ucp_ep_h from, const Greeting& greeting) {
  const auto found =
      std::find_if(accepted_.begin(), accepted_.end(), [&](const AcceptedPtr& accepted) {
        return accepted->ep->handle() == from && !accepted->greeting;
      });
  if (found == accepted_.end()) return drop("a greeting on no new connection");
  const AcceptedPtr accepted = *found;
  if (greeting.nonce != self_.nonce || greeting.to != self_.self)
    return refuse(accepted, greeting, "a greeting with a wrong nonce or incarnation");
  accepted->greeting = greeting;
  for (const OpeningPtr& opening : openings_) {
    if (opening->dials || opening->hello.incarnation != greeting.from) continue;
    answer(OpeningPtr(opening), accepted);
    return;
  }
}

// The connection is left to its deadline, or to the peer that is told.
void Endpoint::refuse(const AcceptedPtr& accepted, const Greeting& greeting, const char* why) {
  drop(why);
  accepted->greeting.reset();
  const Greeting refusal{.refusal = true, .to = greeting.from, .answered = greeting.token};
  UcpRequest::send(accepted->ep, encode(refusal), {}, UCP_AM_SEND_FLAG_EAGER, [](ucs_status_t) {});
}

// Both open() and the dialler's greeting are there. Whether they are of one session shows now.
bool Endpoint::answer(const OpeningPtr& opening, const AcceptedPtr& accepted) {
  const Greeting theirs = *accepted->greeting;
  if (!self_.verify(theirs.proof, label_of(kDialler, theirs), theirs.from)) {
    refuse(accepted, theirs, "a greeting that does not prove that it has the token");
    return false;
  }
  accepted_.remove(accepted);
  accepted->deadline.cancel();
  accepted->opening = opening;
  greet(*opening, accepted->ep, theirs.token);
  complete(opening, std::exchange(accepted->ep, nullptr), theirs);
  return true;
}

void Endpoint::greet(const Opening& opening, const std::shared_ptr<UcpEp>& ep, uint64_t answered) {
  Greeting greeting{.nonce = opening.hello.channel_nonce,
                    .from = self_.self,
                    .to = opening.hello.incarnation,
                    .token = opening.token,
                    .answered = answered,
                    .max_unconsumed = setup_.max_unconsumed};
  greeting.proof =
      self_.prove(label_of(opening.dials ? kDialler : kListener, greeting), opening.hello);
  // With the way to answer: it says on which connection this comes.
  UcpRequest::send(ep, encode(greeting), {}, UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY,
                   [](ucs_status_t) {});  // a failure shows as the endpoint's or as the deadline
}

// --- opening: the dialling side

Status Endpoint::dial(const OpeningPtr& opening) {
  if (opening->hello.ucx_address.empty())
    return Status(Code::kUnavailable, "ucx channel: the peer has none");
  BATON_ASSIGN_OR_RETURN(const auto node, parse_node_address(opening->hello.node));
  opening->resolver.async_resolve(
      node.front().host, opening->hello.ucx_address, tcp::resolver::numeric_service,
      [weak = weak_from_this(), opening](const error_code& error,
                                         const tcp::resolver::results_type& found) {
        const auto self = weak.lock();
        if (!self || !opening->done) return;  // given up meanwhile
        if (!error) return self->connect(opening, found.begin()->endpoint());
        self->fail(opening,
                   Status(Code::kUnavailable,
                          "ucx channel: the peer's address " + opening->hello.node + ", port " +
                              opening->hello.ucx_address + ": " + error.message(),
                          error.value()));
      });
  return ok_status();
}

void Endpoint::connect(const OpeningPtr& opening, const tcp::endpoint& to) {
  auto ep = UcpEp::connect(worker_, to, [weak = weak_from_this(), opening](const Status& why) {
    const auto self = weak.lock();
    if (!self) return;
    if (opening->done) return self->fail(opening, why);
    if (const auto channel = self->channel_of(opening->token)) channel->close(why);
  });
  if (!ep.ok()) return fail(opening, ep.status());
  opening->ep = std::move(*ep);
  greet(*opening, opening->ep, 0);
}

void Endpoint::greeted_by_listener(const Greeting& greeting) {
  const auto found = std::find_if(openings_.begin(), openings_.end(), [&](const auto& opening) {
    return opening->ep && opening->token == greeting.answered;
  });
  if (found == openings_.end()) return drop("an answer to no greeting of ours");
  const OpeningPtr opening = *found;
  if (greeting.refusal)
    return fail(opening,
                Status(Code::kRefused,
                       "ucx channel: the peer does not know the nonce, incarnation or token"));
  if (greeting.nonce != self_.nonce || greeting.from != opening->hello.incarnation ||
      greeting.to != self_.self)
    return fail(opening, Status(Code::kRefused,
                                "ucx channel: incarnation " +
                                    std::to_string(opening->hello.incarnation.value) +
                                    " was expected and " + std::to_string(greeting.from.value) +
                                    " answered, or its nonce is wrong"));
  if (!self_.verify(greeting.proof, label_of(kListener, greeting), greeting.from))
    return fail(opening, Status(Code::kRefused,
                                "ucx channel: the peer does not prove that it has the token"));
  complete(opening, std::exchange(opening->ep, nullptr), greeting);
}

void Endpoint::complete(const OpeningPtr& opening, std::shared_ptr<UcpEp> ep,
                        const Greeting& theirs) {
  openings_.remove(opening);
  opening->deadline.cancel();
  const auto core =
      std::make_shared<ChannelCore>(io_, setup_, std::move(ep), theirs.token, theirs.max_unconsumed,
                                    opening->dials, opening->events);
  std::erase_if(channels_, [](const auto& channel) { return channel.second.expired(); });
  channels_.emplace(opening->token, core);
  if (opening->dials) core->tell_consumed();
  // Not inside open(). What arrives before is posted after this.
  worker_->later(
      [done = std::exchange(opening->done, nullptr), core] { done(make_channel(core)); });
}

// Force-closed, and kept until UCX says so.
void Endpoint::release(std::shared_ptr<UcpEp> ep) {
  if (!ep) return;
  closing_.push_back(ep);
  ep->close([weak = weak_from_this(), gone = ep.get()] {
    if (const auto self = weak.lock())
      self->closing_.remove_if([&](const auto& ep) { return ep.get() == gone; });
  });
}

void Endpoint::fail(const OpeningPtr& opening, Status why) {
  if (!opening->done) return;
  openings_.remove(opening);
  opening->deadline.cancel();
  opening->resolver.cancel();
  release(std::exchange(opening->ep, nullptr));
  worker_->later(
      [done = std::exchange(opening->done, nullptr), why = std::move(why)] { done(why); });
}

void Endpoint::open(const protocol::Hello& hello, bool dial, ChannelEvents& events, OpenDone done) {
  const auto opening = std::make_shared<Opening>(io_, hello, dial, events, std::move(done));
  if (stopped_)
    return fail(opening, Status(Code::kUnavailable, "ucx channel: this node is shutting down"));
  if (!dial) {
    for (const AcceptedPtr& accepted : std::list(accepted_)) {
      if (accepted->greeting && accepted->greeting->from == hello.incarnation &&
          answer(opening, accepted))
        return;
    }
  }
  openings_.push_front(opening);
  opening->deadline.expires_after(config_.open_deadline);
  opening->deadline.async_wait(
      [weak = weak_from_this(), opening, dial](const error_code& cancelled) {
        const auto self = weak.lock();
        if (cancelled || !self) return;
        self->fail(opening, Status(Code::kDeadlineExceeded,
                                   dial ? "ucx channel: the peer did not answer in time"
                                        : "ucx channel: the peer did not dial in time"));
      });
  if (!dial) return;
  if (Status status = this->dial(opening); !status.ok()) fail(opening, std::move(status));
}

void Endpoint::give_up(const ChannelEvents& events) {
  const auto found = std::find_if(openings_.begin(), openings_.end(),
                                  [&](const OpeningPtr& each) { return &each->events == &events; });
  if (found != openings_.end())
    fail(OpeningPtr(*found), Status(Code::kCancelled, "ucx channel: it is not wanted any more"));
}

// --- the end

bool Endpoint::is_quiet() {
  const bool channels = std::all_of(channels_.begin(), channels_.end(), [](const auto& entry) {
    const auto channel = entry.second.lock();
    return !channel || channel->is_quiet();
  });
  return channels && std::all_of(closing_.begin(), closing_.end(),
                                 [](const auto& ep) { return ep->is_quiet(); });
}

// README.md lists the steps.
void Endpoint::stop() {
  if (std::exchange(stopped_, true) || !worker_) return;
  const Status why(Code::kUnavailable, "this node is shutting down");
  if (listener_ != nullptr) listener_->stop();
  for (const ucp_conn_request_h request : std::exchange(requests_, {})) listener_->reject(request);
  while (!openings_.empty()) fail(OpeningPtr(openings_.front()), why);
  while (!accepted_.empty())
    turn_away(AcceptedPtr(accepted_.front()), "this node is shutting down");
  for (const auto& [token, weak] : channels_) {
    if (const auto channel = weak.lock()) channel->close(why);
  }
  if (!worker_->drain([this] { return is_quiet(); }, config_.close_deadline))
    log::error(
        "ucx did not give back all requests at shutdown; their memory is kept, and the port "
        "stays open port={}",
        listener_ != nullptr ? listener_->port() : 0);
  worker_->stop();
}

class UcxEndpointImpl final : public UcxEndpoint {
 public:
  explicit UcxEndpointImpl(std::shared_ptr<Endpoint> endpoint) : endpoint_(std::move(endpoint)) {}
  ~UcxEndpointImpl() override { endpoint_->stop(); }

  std::string_view name() const override { return "ucx"; }
  void describe(protocol::Hello& hello) const override { endpoint_->describe(hello); }
  bool offered(const protocol::Hello& peer) const override { return !peer.ucx_address.empty(); }
  void open(const protocol::Hello& hello, bool dial, ChannelEvents& events,
            OpenDone done) override {
    endpoint_->open(hello, dial, events, std::move(done));
  }
  void give_up(const ChannelEvents& events) override { endpoint_->give_up(events); }
  void stop() override { endpoint_->stop(); }
  const std::vector<std::string>& transports() const override { return endpoint_->transports(); }
  bool has_rdma() const override {
    return std::any_of(transports().begin(), transports().end(), is_rdma);
  }
  uint64_t dropped() const override { return endpoint_->dropped(); }

 private:
  const std::shared_ptr<Endpoint> endpoint_;
};

}  // namespace

bool available() { return true; }

Result<std::unique_ptr<UcxEndpoint>> UcxEndpoint::create(boost::asio::io_context& io,
                                                         UcxConfig config, const std::string& host,
                                                         ChannelIdentity identity,
                                                         ChannelMemory memory) {
  auto endpoint = std::make_shared<Endpoint>(io, config, identity, std::move(memory));
  BATON_RETURN_IF_ERROR(endpoint->start(host));
  return std::unique_ptr<UcxEndpoint>(std::make_unique<UcxEndpointImpl>(std::move(endpoint)));
}

}  // namespace baton::ucx
