// A node that stops while peers connect to it. README.md, "The listener's end", says what each of
// these shows, and in which preset: UCX is not instrumented, so what it reads of freed memory shows
// dependably only where something was filled in there (ASAN_OPTIONS, tests/run.py).
#include <gtest/gtest.h>

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <deque>
#include <optional>
#include <random>

#include "tests/transfer/ucx/test_side.h"
#include "transfer/ucx/async_hold.h"
#include "transfer/ucx/ucp_worker.h"

namespace baton::ucx {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using boost::asio::ip::tcp;
using boost::system::error_code;

// Many where they show something (freed memory is filled, under AddressSanitizer). Not more: UCX
// 1.13 confuses the workers of one process now and then (ucx/README.md, "The listener's end").
#ifdef __SANITIZE_ADDRESS__
constexpr int kRounds = 100;
#else
constexpr int kRounds = 10;
#endif

// Stands between one dialler and a node, and keeps back what the dialler says to it.
class HeldBack {
 public:
  HeldBack(boost::asio::io_context& io, uint16_t to)
      : acceptor_(io, {boost::asio::ip::address_v4::loopback(), 0}), near_(io), far_(io) {
    acceptor_.async_accept(near_, [this, to](const error_code& error) {
      ASSERT_FALSE(error) << error.message();
      far_.connect({boost::asio::ip::address_v4::loopback(), to});
      near_.async_read_some(boost::asio::buffer(said_), [this](const error_code& error, size_t n) {
        if (!error) held_ = n;
      });
      pass_on_the_end();
    });
  }
  uint16_t port() const { return acceptor_.local_endpoint().port(); }
  size_t held() const { return held_; }
  void let_go() { boost::asio::write(far_, boost::asio::buffer(said_, held_)); }

 private:
  // Whatever the node says or does: the dialler's connection ends with it.
  void pass_on_the_end() {
    far_.async_wait(tcp::socket::wait_read, [this](const error_code& error) {
      if (!error) near_.close();
    });
  }
  tcp::acceptor acceptor_;
  tcp::socket near_, far_;
  std::array<char, 4096> said_;
  size_t held_ = 0;
};

class UcxStopTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  void poll_for(Duration time) {
    const TimePoint end = now() + time;
    while (now() < end) io_.poll();
  }
  void expect_refused(const std::shared_ptr<Side::Opened>& opened) {
    ASSERT_TRUE(until([&] { return opened->has_value(); }));
    EXPECT_EQ((*opened)->status().code(), Code::kUnavailable) << (*opened)->status().to_string();
  }
  // `to` holds one received segment, in memory of its UCX.
  void send_one(Side& from, Side& to) {
    auto staging = from.channel->acquire(1000);
    ASSERT_TRUE(staging.ok() && *staging);
    fill((*staging)->bytes, 3);
    ASSERT_TRUE(
        from.channel->publish(segment(3, 1000), std::move(**staging), [](const Status&) {}).ok());
    ASSERT_TRUE(until([&] { return to.events.payloads.size() == 1; }));
  }
  boost::asio::io_context io_;
};

TEST_F(UcxStopTest, ARequestOnAConnectionMadeBeforeTheStopIsRejected) {
  Side a(io_, 1, {.open_deadline = 20s}), c(io_, 3);
  std::optional<Side> b(std::in_place, io_, 2);
  protocol::Hello hello = b->hello();
  HeldBack between(io_, static_cast<uint16_t>(std::stoi(hello.ucx_address)));
  hello.ucx_address = std::to_string(between.port());
  const auto opened = a.open(hello, true, a.events);
  ASSERT_TRUE(until([&] { return between.held() != 0; }));
  // UCX takes connections in their order: once the second one is made it has the first.
  join(io_, c, *b);
  send_one(c, *b);
  b->channel.reset();
  b->endpoint.reset();

  // The worker lives on, because somebody still has bytes of its.
  between.let_go();
  ASSERT_TRUE(AsyncHold::take(10s).ok());  // UCX's thread has handled what came before
  EXPECT_TRUE(filled(b->events.payloads[0].bytes(), 3));
  b->events.payloads.clear();
  expect_refused(opened);
}

TEST_F(UcxStopTest, PeersDialAtAnyTime) {
  std::minstd_rand random(20261127);
  Side a(io_, 1, {.open_deadline = 20s}), c(io_, 3);
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    std::optional<Side> b(std::in_place, io_, 2);
    const bool lives_on = round % 2 == 0;  // its worker does
    if (lives_on) {
      join(io_, c, *b);
      send_one(c, *b);
    }
    std::deque<Events> events;
    std::vector<std::shared_ptr<Side::Opened>> opened;
    const auto dial = [&] { opened.push_back(a.open(b->hello(), true, events.emplace_back())); };
    for (size_t i = 1 + random() % 4; i > 0; --i) dial();
    poll_for(std::chrono::microseconds(random() % 2000));
    for (size_t i = random() % 4; i > 0; --i) dial();
    b->channel.reset();
    b->endpoint.reset();
    if (lives_on) poll_for(std::chrono::microseconds(random() % 1000));
    b.reset();
    for (const auto& each : opened) expect_refused(each);
    c.channel.reset();
    c.events.closes.clear();
    if (HasFatalFailure()) return;
  }
}

// Whether somebody listens there.
bool connects(tcp::socket& socket, uint16_t port) {
  error_code error;
  socket.connect({boost::asio::ip::address_v4::loopback(), port}, error);
  return !error;
}

void end_one_that_cannot_go(boost::asio::io_context& io) {
  auto context = UcpContext::create(loopback());
  ASSERT_TRUE(context.ok());
  uint16_t port = 0;
  const auto end_one = [&](Duration hold_deadline) {
    auto worker = UcpWorker::create(
        io, *context, 0ns,
        [](std::span<const std::byte>, void*, size_t, const ucp_am_recv_param_t&) {
          return UCS_OK;
        },
        hold_deadline);
    ASSERT_TRUE(worker.ok()) << worker.status().to_string();
    auto listener = (*worker)->listen({boost::asio::ip::address_v4::loopback(), 0},
                                      [](ucp_conn_request_h) { ADD_FAILURE(); });
    ASSERT_TRUE(listener.ok()) << listener.status().to_string();
    port = (*listener)->port();
  };
  tcp::socket peer(io), nobody(io);
  {
    auto busy = AsyncHold::take(10s);
    ASSERT_TRUE(busy.ok()) << busy.status().to_string();
    const TimePoint begin = now();
    end_one(50ms);
    EXPECT_GE(now() - begin, 50ms);
    EXPECT_LT(now() - begin, UcpWorker::kHoldDeadline);
    EXPECT_TRUE(connects(peer, port));
  }
  ASSERT_TRUE(AsyncHold::take(10s).ok());  // UCX's thread has handled the connection
  EXPECT_EQ(context->use_count(), 2);
  end_one(10s);
  EXPECT_FALSE(connects(nobody, port));
  EXPECT_EQ(context->use_count(), 2);
}

TEST_F(UcxStopTest, AWorkerWhoseListenerCannotGoSafelyIsKept) {
#ifdef __SANITIZE_THREAD__
  // UCX's destructors at exit do not wait for its thread, which a worker that is kept still has it
  // run: ThreadSanitizer reports UCX. So this process ends without them.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        end_one_that_cannot_go(io_);
        std::_Exit(HasFailure() ? 1 : 0);
      },
      ::testing::ExitedWithCode(0), "");
#else
  end_one_that_cannot_go(io_);
#endif
}

TEST(AsyncHold, OneAtATime) {
  auto hold = AsyncHold::take(10s);
  ASSERT_TRUE(hold.ok()) << hold.status().to_string();
  EXPECT_EQ(AsyncHold::take(50ms).status().code(), Code::kDeadlineExceeded);
  hold->reset();
  EXPECT_TRUE(AsyncHold::take(10s).ok());
}

}  // namespace
}  // namespace baton::ucx
