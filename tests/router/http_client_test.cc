#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <set>

#include "router/http/client.h"
#include "router/http/server.h"

namespace baton::http {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr auto kPatience = 20s;

// A call whose events the test waits for.
struct Watched {
  std::promise<ResponseHead> head;
  std::promise<CallEnd> end;
  std::function<void(std::string_view)> on_piece = [](std::string_view) {};

  CallHandlers handlers() {
    return {[this](const ResponseHead& h) { head.set_value(h); },
            [this](std::string_view piece) { on_piece(piece); },
            [this](const CallEnd& e) { end.set_value(e); }};
  }
  CallEnd wait() { return end.get_future().get(); }
};

class HttpClient : public ::testing::Test {
 protected:
  void start(Handler handler) {
    auto server = Server::listen(loop_, {"127.0.0.1", 0}, {}, std::move(handler));
    ASSERT_TRUE(server.ok()) << server.status().to_string();
    server_ = std::move(server).value();
  }

  EventLoop loop_;
  std::unique_ptr<Server> server_;
};

TEST_F(HttpClient, DeliversPiecesAsTheyCome) {
  std::promise<std::shared_ptr<Exchange>> arrived;
  start([&](std::shared_ptr<Exchange> e) { arrived.set_value(std::move(e)); });
  Client client(loop_);
  Watched watched;
  std::promise<std::string> first;
  std::string all;
  watched.on_piece = [&](std::string_view piece) {
    if (all.empty()) first.set_value(std::string(piece));
    all += piece;
  };
  const auto call =
      client.start(server_->address(), {"POST", "/x", {}, "body"}, {}, watched.handlers());
  const auto exchange = arrived.get_future().get();
  EXPECT_EQ(exchange->request().body, "body");
  EXPECT_EQ(find_header(exchange->request().headers, "host"), server_->address().to_string());
  ASSERT_TRUE(exchange->start_stream(200, {{"X-Kind", "stream"}}).ok());
  const ResponseHead head = watched.head.get_future().get();
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(find_header(head.headers, "x-kind"), "stream");
  ASSERT_TRUE(exchange->write("one").ok());
  EXPECT_EQ(first.get_future().get(), "one");  // while the rest is not written yet
  ASSERT_TRUE(exchange->write("two").ok());
  exchange->finish();
  const CallEnd end = watched.wait();
  EXPECT_TRUE(end.status.ok()) << end.status.to_string();
  EXPECT_EQ(end.stage, CallStage::kAnswering);
  EXPECT_EQ(all, "onetwo");
}

TEST_F(HttpClient, CancelIsNoticedByTheServer) {
  std::promise<std::shared_ptr<Exchange>> arrived;
  std::promise<void> gone;
  start([&](std::shared_ptr<Exchange> e) {
    e->on_client_gone([&] { gone.set_value(); });
    arrived.set_value(std::move(e));
  });
  Client client(loop_);
  Watched watched;
  const auto call = client.start(server_->address(), {}, {}, watched.handlers());
  const auto exchange = arrived.get_future().get();
  call->cancel();
  const CallEnd end = watched.wait();
  EXPECT_EQ(end.status.code(), Code::kCancelled);
  EXPECT_EQ(end.stage, CallStage::kWaiting);
  EXPECT_EQ(gone.get_future().wait_for(kPatience), std::future_status::ready);
  call->cancel();  // again, after its end: nothing happens
}

TEST_F(HttpClient, TellsHowFarAFailedCallGot) {
  start([&](std::shared_ptr<Exchange> e) {
    if (e->request().path() == "/half") {
      ASSERT_TRUE(e->start_stream(200, {}).ok());
      ASSERT_TRUE(e->write("half").ok());
    }
    if (e->request().path() != "/silent") e->abort();
  });
  Client client(loop_);
  const auto end_of = [&](const HostPort& to, const char* target, Duration deadline) {
    Watched watched;
    const auto call =
        client.start(to, {"GET", target, {}, ""}, {.deadline = deadline}, watched.handlers());
    return watched.wait();
  };
  CallEnd end = end_of(server_->address(), "/nothing", kPatience);
  EXPECT_EQ(end.status.code(), Code::kUnavailable);
  EXPECT_EQ(end.stage, CallStage::kWaiting);
  end = end_of(server_->address(), "/half", kPatience);
  EXPECT_EQ(end.status.code(), Code::kUnavailable);
  EXPECT_EQ(end.stage, CallStage::kAnswering);
  end = end_of(server_->address(), "/silent", 20ms);
  EXPECT_EQ(end.status.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(end.stage, CallStage::kWaiting);
  const HostPort closed = server_->address();
  server_.reset();
  end = end_of(closed, "/", kPatience);
  EXPECT_EQ(end.status.code(), Code::kUnavailable);
  EXPECT_EQ(end.stage, CallStage::kConnecting);
  EXPECT_THAT(end.status.message(), HasSubstr(closed.to_string()));
  end = end_of({"no.such.host.invalid", 80}, "/", kPatience);
  EXPECT_EQ(end.stage, CallStage::kConnecting);
}

TEST_F(HttpClient, PauseHoldsTheAnswerBack) {
  constexpr size_t kBytes = 16 << 20;
  start([&](std::shared_ptr<Exchange> e) { e->respond(200, {}, std::string(kBytes, 'z')); });
  Client client(loop_);
  Watched watched;
  size_t received = 0;
  std::shared_ptr<Call> call;
  std::promise<void> paused;
  std::promise<void> ready;
  watched.on_piece = [&](std::string_view piece) {
    if (received == 0) {
      ready.get_future().wait();
      call->pause();
      paused.set_value();
    }
    received += piece.size();
  };
  call = client.start(server_->address(), {}, {}, watched.handlers());
  ready.set_value();
  paused.get_future().wait();
  // The loop goes round several times without reading more than the pieces it had.
  size_t before = 0;
  for (int i = 0; i < 3; ++i) {
    std::promise<size_t> seen;
    loop_.post([&] { seen.set_value(received); });
    before = seen.get_future().get();
  }
  EXPECT_LT(before, kBytes / 2);
  call->resume();
  EXPECT_TRUE(watched.wait().status.ok());
  EXPECT_EQ(received, kBytes);
}

TEST_F(HttpClient, FetchBoundsTheAnswer) {
  start([&](std::shared_ptr<Exchange> e) { e->respond(200, {}, std::string(1000, 'z')); });
  Client client(loop_);
  EXPECT_EQ(client.fetch(server_->address(), {})->body.size(), 1000u);
  EXPECT_EQ(client.fetch(server_->address(), {}, {}, 999).status().code(),
            Code::kResourceExhausted);
  const auto head = client.fetch(server_->address(), {"HEAD", "/", {}, ""});
  ASSERT_TRUE(head.ok()) << head.status().to_string();
  EXPECT_EQ(head->body, "");
  EXPECT_EQ(find_header(head->headers, "Content-Length"), "1000");
}

TEST_F(HttpClient, UsesAConnectionAgainUnlessTheOtherSideClosedIt) {
  start([&](std::shared_ptr<Exchange> e) { e->respond(200, {}, "x"); });
  const HostPort address = server_->address();
  Client client(loop_);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client.fetch(address, {}).ok());
  // A server that comes back at the same address: the connection kept from before is dead.
  server_.reset();
  auto again = Server::listen(loop_, address, {},
                              [](std::shared_ptr<Exchange> e) { e->respond(200, {}, "again"); });
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  const auto response = client.fetch(address, {});
  ASSERT_TRUE(response.ok()) << response.status().to_string();
  EXPECT_EQ(response->body, "again");
}

TEST_F(HttpClient, EndsItsCallsWhenDestroyed) {
  std::promise<std::shared_ptr<Exchange>> arrived;
  start([&](std::shared_ptr<Exchange> e) { arrived.set_value(std::move(e)); });
  Watched watched;
  std::shared_ptr<Exchange> exchange;
  {
    Client client(loop_);
    client.start(server_->address(), {}, {}, watched.handlers());
    exchange = arrived.get_future().get();
  }
  EXPECT_EQ(watched.wait().status.code(), Code::kCancelled);
}

TEST(Url, ParsesAndRefuses) {
  const auto url = Url::parse("http://127.0.0.1:8001/");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->address, (HostPort{"127.0.0.1", 8001}));
  EXPECT_EQ(url->prefix, "");
  EXPECT_EQ(Url::parse("http://host/deep/er")->prefix, "/deep/er");
  EXPECT_EQ(Url::parse("http://host")->address.port, 80);
  EXPECT_EQ(Url::parse("http://[::1]:9")->address, (HostPort{"::1", 9}));
  for (const char* wrong : {"", "https://h:1", "h:1", "http://", "http://h:x", "http://h:0"}) {
    const auto bad = Url::parse(wrong);
    ASSERT_FALSE(bad.ok()) << wrong;
    EXPECT_THAT(bad.status().message(), HasSubstr("'" + std::string(wrong) + "'"));
  }
}

TEST(Message, HeaderValuesCannotAddHeaders) {
  EXPECT_EQ(serialize_head(200, {{"X", "a\r\nY: b"}}), "HTTP/1.1 200 OK\r\nX: a  Y: b\r\n\r\n");
}

}  // namespace
}  // namespace baton::http
