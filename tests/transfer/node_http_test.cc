#include "transfer/node_http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "tests/fakes/raw_socket.h"

namespace baton {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class NodeHttpTest : public ::testing::Test {
 protected:
  void start(Token token) {
    NodeHttp::Handlers handlers;
    handlers.metrics = [] { return std::string("some_metric 1\n"); };
    handlers.debug_handoffs = [] { return nlohmann::json{{"handoffs", {}}}; };
    handlers.fail = [this](const HandoffId&, uint32_t, const std::string& reason) {
      reason_ = reason;
      ++fails_;
    };
    auto http = NodeHttp::create({"127.0.0.1", 0}, std::move(token), std::move(handlers));
    ASSERT_TRUE(http.ok()) << http.status().to_string();
    http_ = std::move(*http);
  }
  std::string ask(const std::string& request_line, const std::string& headers,
                  const std::string& body = {}) {
    test::RawSocket socket(http_->address());
    socket.send(request_line + " HTTP/1.1\r\nHost: n\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
    return socket.read_response();
  }

  std::string reason_;  // the last one's; written before fails_, read after it
  std::atomic<int> fails_ = 0;
  std::unique_ptr<NodeHttp> http_;
};

const std::string kFail = "POST /handoffs/123e4567-e89b-42d3-a456-426614174000/fail";
const std::string kAdmin[] = {"GET /metrics", "GET /debug/handoffs", kFail};

TEST_F(NodeHttpTest, WithATokenAllButHealthAskForIt) {
  start(*Token::create("a-token-of-the-tests", "test"));
  EXPECT_THAT(ask("GET /health", ""), StartsWith("HTTP/1.1 200"));
  const std::string right = "Authorization: Bearer a-token-of-the-tests\r\n";
  for (const std::string& admin : kAdmin) {
    SCOPED_TRACE(admin);
    for (const std::string& wrong :
         {std::string(), std::string("Authorization: Bearer another\r\n"),
          std::string("Authorization: a-token-of-the-tests\r\n"), right + right,
          "Authorization: Bearer another\r\n" + right}) {
      const std::string refused = ask(admin, wrong);
      EXPECT_THAT(refused, AllOf(StartsWith("HTTP/1.1 401"), HasSubstr("WWW-Authenticate: Bearer"),
                                 HasSubstr(R"("code":"unauthenticated")"),
                                 Not(HasSubstr("a-token-of-the-tests"))));
    }
    EXPECT_EQ(fails_, 0);
    EXPECT_THAT(ask(admin, right), StartsWith("HTTP/1.1 200"));
  }
  EXPECT_EQ(fails_, 1);
  // Nor do strangers learn what there is.
  EXPECT_THAT(ask("GET /nothing", ""), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(ask("GET /nothing", right), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(ask("GET /health/../metrics", ""), StartsWith("HTTP/1.1 401"));
}

TEST_F(NodeHttpTest, WithoutATokenNobodyIsAsked) {
  start(Token());
  for (const std::string& admin : kAdmin) EXPECT_THAT(ask(admin, ""), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(fails_, 1);
}

TEST_F(NodeHttpTest, AReasonEndsWithAWholeCharacter) {
  start(Token());
  const std::string bound(1023, 'x');
  EXPECT_THAT(ask(kFail, "", R"({"reason": ")" + bound + R"(é"})"), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(fails_, 1);
  EXPECT_EQ(reason_, bound);
}

}  // namespace
}  // namespace baton
