#include "transfer/ucx/ucx_endpoint.h"

#include <gmock/gmock.h>

#include "tests/transfer/child.h"
#include "tests/transfer/ucx/test_side.h"
#include "transfer/ucx/ucp_request.h"

namespace baton::ucx {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using baton::testing::Child;

constexpr uint64_t kRaw = 77;  // incarnation of a peer made by hand

boost::asio::ip::tcp::endpoint address_of(const Side& side) {
  return {boost::asio::ip::address_v4::loopback(),
          static_cast<uint16_t>(std::stoi(side.hello().ucx_address))};
}

class UcxEndpointTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  Code outcome(const std::shared_ptr<Side::Opened>& opened) {
    EXPECT_TRUE(until([&] { return opened->has_value(); }));
    return opened->has_value() ? (*opened)->status().code() : Code::kOk;
  }
  void expect_bytes_to_pass(Side& from, Side& to) {
    auto staging = from.channel->acquire(100);
    ASSERT_TRUE(staging.ok() && *staging);
    fill((*staging)->bytes, 3);
    ASSERT_TRUE(
        from.channel->publish(segment(3, 100), std::move(**staging), [](const Status&) {}).ok());
    ASSERT_TRUE(until([&] { return to.events.payloads.size() == 1; }));
    EXPECT_TRUE(filled(to.events.payloads[0].bytes(), 3));
    to.events.payloads.clear();
  }
  boost::asio::io_context io_;
};

TEST_F(UcxEndpointTest, EitherSideMayBeFirst) {
  for (const bool dialler_first : {true, false}) {
    Side a(io_, 1), b(io_, 2);
    std::shared_ptr<Side::Opened> ours, theirs;
    if (!dialler_first) theirs = b.open(a.hello(), false, b.events);
    ours = a.open(b.hello(), true, a.events);
    if (dialler_first) {
      run_for(io_, 50ms);
      EXPECT_FALSE(ours->has_value());
      theirs = b.open(a.hello(), false, b.events);
    }
    EXPECT_EQ(outcome(ours), Code::kOk);
    EXPECT_EQ(outcome(theirs), Code::kOk);
  }
}

TEST_F(UcxEndpointTest, AChannelMayBeOpenedAgain) {
  Side a(io_, 1), b(io_, 2);
  for (int round = 0; round < 3; ++round) {
    a.events.closes.clear();
    b.events.closes.clear();
    join(io_, a, b);
    expect_bytes_to_pass(a, b);
    a.channel->close(Status(Code::kCancelled, "enough"));
    ASSERT_TRUE(until([&] { return a.events.closes.size() == 1 && b.events.closes.size() == 1; }));
  }
}

TEST_F(UcxEndpointTest, AfterARefusalAChannelOpensAgain) {
  Side a(io_, 1), b(io_, 2);
  protocol::Hello wrong = b.hello();
  wrong.channel_nonce ^= 1;
  EXPECT_EQ(outcome(a.open(wrong, true, a.events)), Code::kRefused);
  join(io_, a, b);
  expect_bytes_to_pass(a, b);
  a.channel->close(Status(Code::kCancelled, "enough"));
  ASSERT_TRUE(until([&] { return a.events.closes.size() == 1 && b.events.closes.size() == 1; }));
}

TEST_F(UcxEndpointTest, AWrongNonceOrLifeIsRefused) {
  Side a(io_, 1), b(io_, 2);
  protocol::Hello wrong_nonce = b.hello();
  wrong_nonce.channel_nonce ^= 1;
  EXPECT_EQ(outcome(a.open(wrong_nonce, true, a.events)), Code::kRefused);
  protocol::Hello wrong_life = b.hello();
  wrong_life.incarnation.value ^= 1;
  EXPECT_EQ(outcome(a.open(wrong_life, true, a.events)), Code::kRefused);
  EXPECT_EQ(b.ucx->dropped(), 2u);
}

TEST_F(UcxEndpointTest, TheListenerIsAskedForTheNonceToo) {
  // b answers with the nonce that it believes a to have.
  Side a(io_, 1), b(io_, 2);
  protocol::Hello not_a = a.hello();
  not_a.channel_nonce ^= 1;
  const auto theirs = b.open(not_a, false, b.events);
  EXPECT_EQ(outcome(a.open(b.hello(), true, a.events)), Code::kRefused);
}

TEST_F(UcxEndpointTest, NobodyThereAndNobodyOpening) {
  Side a(io_, 1, {.open_deadline = 200ms}), b(io_, 2, {.open_deadline = 200ms});
  protocol::Hello elsewhere = b.hello();
  elsewhere.ucx_address = "";
  EXPECT_EQ(outcome(a.open(elsewhere, true, a.events)), Code::kUnavailable);
  EXPECT_FALSE(a.endpoint->offered(elsewhere));
  EXPECT_TRUE(a.endpoint->offered(b.hello()));
  EXPECT_EQ(outcome(a.open(b.hello(), true, a.events)), Code::kDeadlineExceeded);
  EXPECT_EQ(outcome(a.open(b.hello(), false, a.events)), Code::kDeadlineExceeded);
  protocol::Hello gone = b.hello();
  b.endpoint.reset();
  const Code code = outcome(a.open(gone, true, a.events));
  EXPECT_TRUE(code == Code::kUnavailable || code == Code::kDeadlineExceeded) << code_name(code);
}

TEST_F(UcxEndpointTest, StrangersMessagesAreDroppedAndCounted) {
  Side a(io_, 1), b(io_, 2);
  join(io_, a, b);
  auto context = UcpContext::create(loopback());
  ASSERT_TRUE(context.ok());
  auto worker = UcpWorker::create(
      io_, *context, 0ns,
      [](std::span<const std::byte>, void*, size_t, const ucp_am_recv_param_t&) { return UCS_OK; });
  ASSERT_TRUE(worker.ok()) << worker.status().to_string();
  {
    auto ep = UcpEp::connect(*worker, address_of(b), nullptr);
    ASSERT_TRUE(ep.ok());
    const std::vector<std::byte> payload(64 << 10);
    int back = 0;
    const auto count = [&](ucs_status_t) { ++back; };
    const Piece piece{1234, 1, segment(1, payload.size()), 0};
    UcpRequest::send(*ep, encode(piece), payload, UCP_AM_SEND_FLAG_EAGER, count);
    UcpRequest::send(*ep, encode(piece), payload, UCP_AM_SEND_FLAG_RNDV, count);
    UcpRequest::send(*ep, encode(Consumed{1234, 5}), {}, UCP_AM_SEND_FLAG_EAGER, count);
    UcpRequest::send(*ep, encode(Bye{1234}), {}, UCP_AM_SEND_FLAG_EAGER, count);
    UcpRequest::send(*ep, RecordBytes(), {}, UCP_AM_SEND_FLAG_EAGER, count);  // no header at all
    ASSERT_TRUE(until([&] { return b.ucx->dropped() == 5 && back == 5; }));
    bool quiet = false;
    (*ep)->close([&] { quiet = true; });
    ASSERT_TRUE(until([&] { return quiet; }));
  }
  (*worker)->stop();
  EXPECT_TRUE(b.events.headers.empty());
  EXPECT_TRUE(b.events.closes.empty());
}

// A peer by hand that a Side takes for a real one: it says what a peer must not say.
class RawPeer {
 public:
  RawPeer(boost::asio::io_context& io, Side& side) {
    auto context = UcpContext::create(loopback());
    EXPECT_TRUE(context.ok());
    auto made = UcpWorker::create(
        io, *context, 0ns,
        [this](std::span<const std::byte> header, void*, size_t, const ucp_am_recv_param_t&) {
          const auto record = decode(header);
          if (record.ok())
            if (const auto* g = std::get_if<Greeting>(&*record)) theirs = *g;
          return UCS_OK;
        });
    EXPECT_TRUE(made.ok());
    worker = *made;
    hello.incarnation = {kRaw};
    hello.channel_nonce = 5;
    ep = *UcpEp::connect(worker, address_of(side), nullptr);
    send(Greeting{.nonce = side.nonce(),
                  .from = {kRaw},
                  .to = side.incarnation,
                  .token = 6,
                  .max_unconsumed = 1 << 20},
         {}, UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY);
  }
  ~RawPeer() {
    ep->close([] {});
    EXPECT_TRUE(worker->drain([&] { return ep->is_quiet(); }, 5s));
    worker->stop();
  }
  void send(const Record& record, std::span<const std::byte> payload,
            uint32_t flags = UCP_AM_SEND_FLAG_EAGER) {
    UcpRequest::send(ep, encode(record), payload, flags, [](ucs_status_t) {});
  }
  protocol::Hello hello;
  std::optional<Greeting> theirs;
  std::shared_ptr<UcpWorker> worker;
  std::shared_ptr<UcpEp> ep;
};

TEST_F(UcxEndpointTest, WhatAPeerMustNotSayEndsTheChannel) {
  const std::vector<std::byte> bytes(4096);
  using Say = std::function<void(RawPeer&, uint64_t token)>;
  const auto piece = [](uint64_t token, uint64_t sequence, uint64_t of, uint64_t at) {
    return Piece{token, sequence, segment(1, of), at};
  };
  const std::vector<std::pair<const char*, Say>> cases = {
      {"no bytes", [&](RawPeer& p, uint64_t t) { p.send(piece(t, 1, 0, 0), {}); }},
      {"beyond the segment", [&](RawPeer& p, uint64_t t) { p.send(piece(t, 1, 4000, 0), bytes); }},
      {"far beyond", [&](RawPeer& p, uint64_t t) { p.send(piece(t, 1, 8192, ~0ull), bytes); }},
      {"more than may be unconsumed",
       [&](RawPeer& p, uint64_t t) { p.send(piece(t, 1, 1 << 29, 0), bytes); }},
      {"more pieces than bytes",
       [&](RawPeer& p, uint64_t t) {
         p.send(piece(t, 1, 6000, 0), bytes);
         p.send(piece(t, 1, 6000, 0), bytes);
       }},
      {"consumed, never sent",
       [&](RawPeer& p, uint64_t t) {
         p.send(Consumed{t, 1}, {});
       }},
  };
  for (const auto& [name, say] : cases) {
    SCOPED_TRACE(name);
    Side a(io_, 1);
    RawPeer peer(io_, a);
    const auto opened = a.open(peer.hello, false, a.events);
    ASSERT_EQ(outcome(opened), Code::kOk);
    a.channel = std::move(***opened);
    ASSERT_TRUE(until([&] { return peer.theirs.has_value(); }));
    EXPECT_EQ(peer.theirs->nonce, peer.hello.channel_nonce);
    EXPECT_EQ(peer.theirs->answered, 6u);
    say(peer, peer.theirs->token);
    ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
    EXPECT_EQ(a.events.closes[0].code(), Code::kProtocol) << a.events.closes[0].to_string();
    EXPECT_TRUE(a.events.headers.empty());
  }
}

// What UCX does by its own choice over RDMA, here by force over TCP.
TEST_F(UcxEndpointTest, ARendezvousLandsInMemoryOfOurs) {
  Side a(io_, 1);
  RawPeer peer(io_, a);
  const auto opened = a.open(peer.hello, false, a.events);
  ASSERT_EQ(outcome(opened), Code::kOk);
  a.channel = std::move(***opened);
  ASSERT_TRUE(until([&] { return peer.theirs.has_value(); }));
  std::vector<std::byte> bytes(200'000);
  fill(bytes, 8);
  const std::span<const std::byte> all(bytes);
  const uint64_t token = peer.theirs->token;
  peer.send(Piece{token, 1, segment(1, bytes.size()), 0}, all, UCP_AM_SEND_FLAG_RNDV);
  peer.send(Piece{token, 2, segment(2, bytes.size()), 0}, all.first(70'000), UCP_AM_SEND_FLAG_RNDV);
  peer.send(Piece{token, 2, segment(2, bytes.size()), 70'000}, all.subspan(70'000),
            UCP_AM_SEND_FLAG_RNDV);
  ASSERT_TRUE(until([&] { return a.events.payloads.size() == 2; }));
  for (const ReceivedBytes& payload : a.events.payloads) {
    ASSERT_EQ(payload.bytes().size(), bytes.size());
    EXPECT_TRUE(filled(payload.bytes(), 8));
  }
}

TEST_F(UcxEndpointTest, AClosedChannelsRendezvousComesBack) {
  Side a(io_, 1, {.max_unconsumed_bytes = 64u << 20});
  RawPeer peer(io_, a);
  const auto opened = a.open(peer.hello, false, a.events);
  ASSERT_EQ(outcome(opened), Code::kOk);
  a.channel = std::move(***opened);
  ASSERT_TRUE(until([&] { return peer.theirs.has_value(); }));
  const std::vector<std::byte> bytes(8u << 20);
  for (uint64_t i = 1; i <= 4; ++i)
    peer.send(Piece{peer.theirs->token, i, segment(i, bytes.size()), 0}, bytes,
              UCP_AM_SEND_FLAG_RNDV);
  for (int turns = 0; turns < 20; ++turns) {  // some are announced and have not landed
    io_.restart();
    io_.run_one_for(1ms);
  }
  a.channel->close(Status(Code::kUnavailable, "enough"));
  const TimePoint began = now();
  ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
  EXPECT_LT(now() - began, UcxConfig().close_deadline);
  EXPECT_EQ(a.events.closes[0].message(), "enough");
}

TEST_F(UcxEndpointTest, WhatItsDiallerGaveUpIsNotTakenForTheNextOne) {
  Side a(io_, 1), b(io_, 2);
  Events gone;
  const auto given_up = a.open(b.hello(), true, gone);
  run_for(io_, 50ms);  // its connection waits at b
  a.endpoint->give_up(gone);
  EXPECT_EQ(outcome(given_up), Code::kCancelled);
  run_for(io_, 50ms);
  const auto theirs = b.open(a.hello(), false, b.events);
  run_for(io_, 20ms);
  EXPECT_FALSE(theirs->has_value());
  EXPECT_EQ(outcome(a.open(b.hello(), true, a.events)), Code::kOk);
  EXPECT_EQ(outcome(theirs), Code::kOk);
}

// Where a token is set, or TLS is used: whoever greets proves that he was let in.
class UcxAuthTest : public UcxEndpointTest {
 protected:
  UcxAuthTest() {
    for (uint64_t incarnation : {1, 2})
      sides_.push_back(std::make_unique<Side>(io_, incarnation, UcxConfig{.open_deadline = 400ms},
                                              4, std::make_shared<ChannelSessions>()));
  }
  void let_in() {
    const Digest key = random_digest();
    a().sessions->begin(b().incarnation, key);
    b().sessions->begin(a().incarnation, key);
  }
  Side& a() { return *sides_[0]; }
  Side& b() { return *sides_[1]; }

 private:
  std::vector<std::unique_ptr<Side>> sides_;
};

TEST_F(UcxAuthTest, WhoeverWasLetInIsGreeted) {
  let_in();
  join(io_, a(), b());
  expect_bytes_to_pass(a(), b());
}

TEST_F(UcxAuthTest, OneWithoutTheKeyIsRefusedAndTheRightOneStillGetsIn) {
  let_in();
  for (const bool greets_first : {true, false}) {
    SCOPED_TRACE(greets_first);
    // It knows the nonce, which HELLO says to everybody, and calls itself `a`.
    Side stranger(io_, a().incarnation.value, {}, 4, std::make_shared<ChannelSessions>());
    stranger.sessions->begin(b().incarnation, random_digest());
    std::shared_ptr<Side::Opened> theirs;
    if (!greets_first) theirs = b().open(a().hello(), false, b().events);
    const auto refused = stranger.open(b().hello(), true, stranger.events);
    if (greets_first) {
      run_for(io_, 50ms);
      theirs = b().open(a().hello(), false, b().events);
    }
    EXPECT_EQ(outcome(refused), Code::kRefused);
    EXPECT_FALSE(theirs->has_value());
    EXPECT_EQ(outcome(a().open(b().hello(), true, a().events)), Code::kOk);
    EXPECT_EQ(outcome(theirs), Code::kOk);
  }
}

TEST_F(UcxAuthTest, AListenerWithoutTheKeyGetsNothing) {
  a().sessions->begin(b().incarnation, random_digest());
  b().sessions->begin(a().incarnation, random_digest());
  const auto ours = a().open(b().hello(), true, a().events);
  const auto theirs = b().open(a().hello(), false, b().events);
  EXPECT_EQ(outcome(ours), Code::kRefused);
  EXPECT_EQ(outcome(theirs), Code::kDeadlineExceeded);
}

// A process that dials `side` and never consumes.
class UcxChildTest : public UcxEndpointTest {
 protected:
  void start() {
    child_.emplace(std::vector<std::string>{BATON_TEST_PEER, "ucx", a_.hello().ucx_address,
                                            std::to_string(a_.nonce()), "1"});
    protocol::Hello hello;
    hello.incarnation = {99};
    hello.channel_nonce = 1;
    const auto opened = a_.open(hello, false, a_.events);
    ASSERT_EQ(outcome(opened), Code::kOk);
    a_.channel = std::move(***opened);
    // Nothing is sent before the dialling side has told that it is ready.
    ASSERT_TRUE(until([&] {
      const auto staging = a_.channel->acquire(64);
      return staging.ok() && staging->has_value();
    }));
  }
  void send_all() {
    for (uint32_t i = 0; i < kSegments; ++i) {
      auto staging = a_.channel->acquire(kTransitBytes);
      ASSERT_TRUE(staging.ok() && *staging) << i;
      fill((*staging)->bytes, i);
      ASSERT_TRUE(a_.channel
                      ->publish(segment(i, kTransitBytes), std::move(**staging),
                                [this](const Status&) { ++done_; })
                      .ok());
    }
  }
  void expect_everything_back() {
    ASSERT_TRUE(until([&] { return a_.events.closes.size() == 1; }));
    EXPECT_EQ(done_, kSegments);
    EXPECT_EQ(a_.transit->counts().free, a_.transit->counts().total);
  }

  static constexpr uint32_t kSegments = 100;  // more than sockets' buffers hold
  // A start of the process may take longer than the usual deadline.
  Side a_{io_, 1, {.open_deadline = 20s, .max_sending_bytes = 64u << 20}, kSegments};
  std::optional<Child> child_;
  uint32_t done_ = 0;
};

TEST_F(UcxChildTest, APeerThatIsKilledReleasesEverything) {
  start();
  child_->signal(SIGSTOP);
  send_all();
  run_for(io_, 50ms);
  EXPECT_LT(done_, kSegments);
  child_->signal(SIGKILL);
  expect_everything_back();
  EXPECT_EQ(a_.events.closes[0].code(), Code::kUnavailable);
}

TEST_F(UcxChildTest, ForceCloseIsTheFenceTowardsAPeerThatHangs) {
  start();
  child_->signal(SIGSTOP);
  send_all();
  run_for(io_, 50ms);
  const size_t held = a_.transit->counts().held;
  EXPECT_GT(held, 0u);
  EXPECT_EQ(done_, kSegments - held);
  a_.channel->close(Status(Code::kDeadlineExceeded, "it hangs"));
  EXPECT_EQ(a_.transit->counts().held, held);
  const TimePoint began = now();
  expect_everything_back();
  EXPECT_LT(now() - began, UcxConfig().close_deadline);
  EXPECT_EQ(a_.events.closes[0].message(), "it hangs");
}

TEST_F(UcxChildTest, ShutdownWithEverythingInFlight) {
  start();
  child_->signal(SIGSTOP);
  send_all();
  a_.endpoint.reset();
  expect_everything_back();
}

TEST_F(UcxEndpointTest, WhatThereIsNotIsAnErrorThatNamesIt) {
  boost::asio::io_context io;
  UcxConfig config = loopback({.transports = "dc_mlx5"});
  const auto none =
      UcxEndpoint::create(io, config, "127.0.0.1", {}, ChannelMemory::create(io, nullptr, nullptr));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), Code::kUnavailable);
  EXPECT_THAT(none.status().message(), ::testing::HasSubstr("dc_mlx5"));
  Side a(io_, 1);
  EXPECT_THAT(a.ucx->transports(), ::testing::ElementsAre("tcp"));
  EXPECT_FALSE(a.ucx->has_rdma());
  EXPECT_EQ(a.hello().ucx_transports, "tcp");
}

}  // namespace
}  // namespace baton::ucx
