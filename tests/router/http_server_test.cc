#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <optional>
#include <thread>

#include "router/http/client.h"
#include "router/http/server.h"
#include "tests/fakes/raw_socket.h"

namespace baton::http {
namespace {

using test::RawSocket;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;

constexpr auto kServerPatience = 20s;

class HttpServer : public ::testing::Test {
 protected:
  void start(Handler handler, ServerConfig config = {}) {
    auto server = Server::listen(loop_, {"127.0.0.1", 0}, std::move(config), std::move(handler));
    ASSERT_TRUE(server.ok()) << server.status().to_string();
    server_ = std::move(server).value();
  }
  RawSocket connect() { return RawSocket(server_->address()); }

  EventLoop loop_;
  std::unique_ptr<Server> server_;
};

TEST_F(HttpServer, AnswersKeepsAliveAndTakesRequestsSentAhead) {
  start([](std::shared_ptr<Exchange> e) {
    e->respond(200, {{"X-Method", e->request().method}},
               std::string(e->request().path()) + "|" + e->request().body);
  });
  RawSocket socket = connect();
  // The second request comes while the first one's answer is not read yet.
  socket.send(
      "POST /a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
      "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(socket.read_response(),
            "HTTP/1.1 200 OK\r\nX-Method: POST\r\nContent-Length: 6\r\n"
            "Connection: keep-alive\r\n\r\n/a|abc");
  EXPECT_THAT(socket.read_response(), HasSubstr("/b|"));
  socket.send("GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(socket.read_to_end(), HasSubstr("Connection: close\r\n\r\n/c|"));
}

TEST_F(HttpServer, StreamsFromAnotherThreadPieceByPiece) {
  std::promise<std::shared_ptr<Exchange>> arrived;
  start([&](std::shared_ptr<Exchange> e) { arrived.set_value(std::move(e)); });
  RawSocket socket = connect();
  socket.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto exchange = arrived.get_future().get();
  ASSERT_TRUE(exchange->start_stream(200, {{"Content-Type", "text/event-stream"}}).ok());
  EXPECT_THAT(socket.read_until("\r\n\r\n"), HasSubstr("Transfer-Encoding: chunked"));
  ASSERT_TRUE(exchange->write("one").ok());
  EXPECT_EQ(socket.read_until("one\r\n"), "3\r\none\r\n");  // before "two" is written
  ASSERT_TRUE(exchange->write("two").ok());
  EXPECT_EQ(socket.read_until("two\r\n"), "3\r\ntwo\r\n");
  exchange->finish();
  EXPECT_EQ(socket.read_until("0\r\n\r\n"), "0\r\n\r\n");
  EXPECT_EQ(exchange->write("late").code(), Code::kCancelled);
}

TEST_F(HttpServer, StreamToHttp10EndsWithTheConnection) {
  start([](std::shared_ptr<Exchange> e) {
    ASSERT_TRUE(e->start_stream(200, {}).ok());
    ASSERT_TRUE(e->write("plain").ok());
    e->finish();
  });
  RawSocket socket = connect();
  socket.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(socket.read_to_end(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nplain");
}

TEST_F(HttpServer, AbortedStreamCanBeToldFromAWholeOne) {
  start([](std::shared_ptr<Exchange> e) {
    ASSERT_TRUE(e->start_stream(200, {}).ok());
    ASSERT_TRUE(e->write("half").ok());
    e->abort();
  });
  RawSocket socket = connect();
  socket.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string all = socket.read_to_end();
  EXPECT_THAT(all, HasSubstr("4\r\nhalf\r\n"));
  EXPECT_EQ(all.find("0\r\n\r\n"), all.npos);
}

TEST_F(HttpServer, NoticesThatTheClientHasGoneWhileItWaits) {
  std::promise<void> waiting;
  std::promise<void> gone;
  std::shared_ptr<Exchange> exchange;
  start([&](std::shared_ptr<Exchange> e) {
    exchange = e;
    e->on_client_gone([&] { gone.set_value(); });
    waiting.set_value();
  });
  RawSocket socket = connect();
  socket.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
  waiting.get_future().wait();
  EXPECT_FALSE(exchange->client_gone());
  socket.close();
  ASSERT_EQ(gone.get_future().wait_for(kServerPatience), std::future_status::ready);
  EXPECT_TRUE(exchange->client_gone());
  EXPECT_EQ(exchange->start_stream(200, {}).code(), Code::kCancelled);
  bool at_once = false;
  exchange->on_client_gone([&] { at_once = true; });
  EXPECT_TRUE(at_once);
}

TEST_F(HttpServer, CutsOffAClientThatDoesNotRead) {
  std::promise<void> gone;
  std::promise<std::shared_ptr<Exchange>> arrived;
  ServerConfig config;
  config.max_buffered_bytes = 256 << 10;
  start(
      [&](std::shared_ptr<Exchange> e) {
        e->on_client_gone([&] { gone.set_value(); });
        arrived.set_value(std::move(e));
      },
      config);
  RawSocket socket(server_->address(), 4096);
  socket.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto exchange = arrived.get_future().get();
  ASSERT_TRUE(exchange->start_stream(200, {}).ok());
  const std::string piece(64 << 10, 'x');
  Status status;
  for (int i = 0; i < 10000 && status.ok(); ++i) status = exchange->write(piece);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(gone.get_future().wait_for(kServerPatience), std::future_status::ready);
}

TEST_F(HttpServer, SaysWhenTheBufferHasDrained) {
  std::promise<void> drained;
  start([&](std::shared_ptr<Exchange> e) {
    e->on_drained([&drained, done = false]() mutable {
      if (!std::exchange(done, true)) drained.set_value();
    });
    ASSERT_TRUE(e->start_stream(200, {}).ok());
    ASSERT_TRUE(e->write("x").ok());
    EXPECT_GT(e->buffered_bytes(), 0u);
  });
  RawSocket socket = connect();
  socket.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(drained.get_future().wait_for(kServerPatience), std::future_status::ready);
}

TEST_F(HttpServer, RejectsWhatBreaksABoundAndServesOn) {
  ServerConfig config;
  config.max_body_bytes = 1000;
  config.max_header_bytes = 2000;
  std::atomic<int> handled{0};
  start(
      [&](std::shared_ptr<Exchange> e) {
        ++handled;
        e->respond(200, {}, "fine");
      },
      config);
  const std::string big(10'000'000, 'x');
  const struct {
    const char* what;
    std::string request;
    const char* answer;
    const char* code;
  } cases[] = {
      {"announced body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n" + big,
       "HTTP/1.1 413 Payload Too Large", "body_too_large"},
      {"chunked body",
       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n989680\r\n" + big,
       "HTTP/1.1 413 Payload Too Large", "body_too_large"},
      {"huge header", "GET / HTTP/1.1\r\nHost: h\r\nX: " + big.substr(0, 5000) + "\r\n\r\n",
       "HTTP/1.1 431 Request Header Fields Too Large", "headers_too_large"},
      {"no HTTP", "hello there\r\n\r\n", "HTTP/1.1 400 Bad Request", "invalid_http"},
      {"bad length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
       "HTTP/1.1 400 Bad Request", "invalid_http"},
      {"bad chunk", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
       "HTTP/1.1 400 Bad Request", "invalid_http"},
  };
  for (const auto& c : cases) {
    RawSocket socket = connect();
    socket.send(c.request);
    const std::string answer = socket.read_response();
    EXPECT_THAT(answer, StartsWith(c.answer)) << c.what;
    EXPECT_THAT(answer, HasSubstr(std::string("\"code\":\"") + c.code + "\"")) << c.what;
  }
  EXPECT_EQ(handled, 0);
  RawSocket socket = connect();
  socket.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(socket.read_response(), HasSubstr("fine"));
}

TEST_F(HttpServer, TurnsAwayConnectionsAboveItsBound) {
  ServerConfig config;
  config.max_connections = 1;
  start([](std::shared_ptr<Exchange> e) { e->respond(200, {}, "in"); }, config);
  RawSocket first = connect();
  first.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(first.read_response(), HasSubstr("in"));
  RawSocket second = connect();
  EXPECT_THAT(second.read_to_end(), StartsWith("HTTP/1.1 503 "));
}

TEST_F(HttpServer, ClosesConnectionsThatSendNothingOrHalfARequest) {
  ServerConfig config;
  config.idle_deadline = 20ms;
  config.read_deadline = 20ms;
  start([](std::shared_ptr<Exchange> e) { e->respond(200, {}, "x"); }, config);
  RawSocket silent = connect();
  EXPECT_EQ(silent.read_to_end(), "");
  RawSocket slow = connect();
  slow.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(slow.read_to_end(), "");
}

TEST_F(HttpServer, StopLetsRunningRequestsEnd) {
  std::promise<std::shared_ptr<Exchange>> arrived;
  start([&](std::shared_ptr<Exchange> e) { arrived.set_value(std::move(e)); });
  RawSocket idle = connect();
  RawSocket busy = connect();
  busy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  auto exchange = arrived.get_future().get();
  std::thread stopping([&] { server_->stop(kServerPatience); });
  EXPECT_EQ(idle.read_to_end(), "");  // idle connections end at once
  EXPECT_FALSE(connect().connected());
  exchange->respond(200, {}, "to the end");
  EXPECT_THAT(busy.read_to_end(), HasSubstr("Connection: close\r\n\r\nto the end"));
  stopping.join();
}

TEST_F(HttpServer, StopCutsWhatOutlivesTheGrace) {
  std::promise<std::shared_ptr<Exchange>> arrived;
  start([&](std::shared_ptr<Exchange> e) { arrived.set_value(std::move(e)); });
  RawSocket busy = connect();
  busy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto exchange = arrived.get_future().get();
  std::atomic<bool> gone{false};
  exchange->on_client_gone([&] { gone = true; });
  server_->stop(10ms);
  EXPECT_TRUE(gone);
  EXPECT_EQ(busy.read_to_end(), "");
  server_.reset();
  exchange->respond(200, {}, "nobody listens");  // and nothing breaks
}

TEST_F(HttpServer, ManyAtOnceFromManyThreads) {
  std::vector<std::thread> workers;
  std::mutex mutex;
  start([&](std::shared_ptr<Exchange> e) {
    const std::lock_guard lock(mutex);
    workers.emplace_back([e = std::move(e)] {
      ASSERT_TRUE(e->start_stream(200, {}).ok());
      for (int i = 0; i < 20; ++i) ASSERT_TRUE(e->write(e->request().body).ok());
      e->finish();
    });
  });
  Client client(loop_);
  std::vector<std::thread> callers;
  for (int c = 0; c < 8; ++c) {
    callers.emplace_back([&, c] {
      for (int i = 0; i < 10; ++i) {
        Request request{"POST", "/", {}, std::to_string(c * 100 + i) + ","};
        std::string expected;
        for (int k = 0; k < 20; ++k) expected += request.body;
        const auto response = client.fetch(server_->address(), request);
        ASSERT_TRUE(response.ok()) << response.status().to_string();
        ASSERT_EQ(response->body, expected);
      }
    });
  }
  for (auto& t : callers) t.join();
  for (auto& t : workers) t.join();
}

TEST(ServerListen, SaysWhyItCannot) {
  EventLoop loop;
  const auto nothing = [](std::shared_ptr<Exchange>) {};
  auto first = Server::listen(loop, {"127.0.0.1", 0}, {}, nothing);
  ASSERT_TRUE(first.ok());
  auto second = Server::listen(loop, first.value()->address(), {}, nothing);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kUnavailable);
  EXPECT_THAT(second.status().message(), HasSubstr(first.value()->address().to_string()));
  auto unknown = Server::listen(loop, {"no.such.host.invalid", 80}, {}, nothing);
  EXPECT_EQ(unknown.status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton::http
