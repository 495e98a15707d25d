#include <thread>

#include "tests/router/router_fixture.h"

namespace baton::router {
namespace {

TEST_F(RouterTest, BadInputIsRefusedAndOthersAreUndisturbed) {
  config_.max_body_bytes = 1 << 20;
  start(1, 1);
  auto undisturbed = post("{}");
  const ExchangePtr prefill = prefillers_[0]->next();
  const ExchangePtr decode = decoders_[0]->next();
  const struct {
    const char* method;
    const char* target;
    std::string body;
    int status;
    const char* says;
  } cases[] = {
      {"POST", "/v1/completions", "", 400, "not valid JSON"},
      {"POST", "/v1/completions", "{\"a\":", 400, "not valid JSON"},
      {"POST", "/v1/completions", "{} x", 400, "not valid JSON"},
      {"POST", "/v1/chat/completions", "{\"a\":\"\xff\xfe\"}", 400, "UTF-8"},
      {"POST", "/v1/completions", "[1,2]", 400, "must be a JSON object"},
      {"POST", "/v1/completions", "\"text\"", 400, "must be a JSON object"},
      {"POST", "/v1/completions", R"({"stream":"yes"})", 400, "'stream' must be true or false"},
      {"POST", "/v1/completions", R"({"str\u0065am":1})", 400, "'stream' must be true or false"},
      {"POST", "/v1/completions", R"({"cache_salt":5})", 400, "'cache_salt' must be a string"},
      {"POST", "/v1/completions", R"({"kv_transfer_params":{"baton":{}}})", 400, "not taken from"},
      {"POST", "/v1/completions", "\"" + std::string(10'000'000, 'x') + "\"", 413, "larger"},
      {"GET", "/v1/completions", "", 405, "only POST"},
      {"POST", "/health", "", 405, "only GET"},
      {"DELETE", "/v1/models", "", 405, "only GET"},
      {"GET", "/v1/nothing", "", 404, "/v1/nothing"},
      {"GET", "/", "", 404, "there is no /"},
  };
  for (const auto& c : cases) {
    const auto response = client_.fetch(router_->address(), {c.method, c.target, {}, c.body});
    ASSERT_TRUE(response.ok()) << c.target << " " << response.status().to_string();
    expect_openai_error(*response, c.status);
    EXPECT_THAT(response->body, HasSubstr(c.says)) << c.body.substr(0, 100);
  }
  EXPECT_TRUE(prefillers_[0]->empty() && decoders_[0]->empty());
  prefill->respond(200, kJson, "{}");
  decode->respond(200, kJson, R"({"still":"here"})");
  EXPECT_EQ(undisturbed.get()->body, R"({"still":"here"})");
}

TEST_F(RouterTest, ModelsComeFromADecoderThatAnswers) {
  start(1, 2);
  decoders_[0]->die();
  auto answer = std::async(std::launch::async, [&] { return get("/v1/models"); });
  decoders_[1]->next()->respond(200, kJson, R"({"data":[]})");
  const http::Response response = answer.get();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, R"({"data":[]})");
}

TEST_F(RouterTest, ModelsThatWaitForAProbeAreAnsweredAtItsStop) {
  config_.health_period = 1h;
  config_.health_deadline = 1h;
  start(0, 1);
  decoders_[0]->die();
  expect_openai_error(*post("{}").get(), 502);
  decoders_[0]->hold_health();
  decoders_[0]->revive();
  RawSocket socket(router_->address());
  socket.send("GET /v1/models HTTP/1.1\r\nHost: r\r\n\r\n");
  decoders_[0]->wait_for_probe();
  router_->stop();
  EXPECT_THAT(socket.read_response(), StartsWith("HTTP/1.1 503"));
}

TEST_F(RouterTest, TooManyAtOnceAreRefused) {
  config_.max_inflight = 1;
  start(1, 1);
  auto first = post("{}");
  const ExchangePtr decode = decoders_[0]->next();
  const auto second = post("{}").get();
  expect_openai_error(*second, 429);
  EXPECT_EQ(http::find_header(second->headers, "Retry-After"), "1");
  decode->respond(200, kJson, "{}");
  EXPECT_EQ(first.get()->status, 200);
}

TEST_F(RouterTest, DrainLetsRunningRequestsEnd) {
  config_.drain = 20s;
  start(1, 1);
  auto running = post("{}");
  const ExchangePtr decode = decoders_[0]->next();
  std::thread stopping([&] { router_->stop(); });
  const auto deadline = now() + test::kPatience;
  for (;;) {  // until the router says that it drains
    const auto health = get("/health");
    if (health.status == 503) {
      EXPECT_EQ(json::parse(health.body)["status"], "draining");
      break;
    }
    ASSERT_LT(now(), deadline);
  }
  const auto refused = post("{}").get();
  expect_openai_error(*refused, 503);
  EXPECT_THAT(refused->body, HasSubstr("shutting down"));
  prefillers_[0]->next()->respond(200, kJson, "{}");
  decode->respond(200, kJson, R"({"last":1})");
  EXPECT_EQ(running.get()->body, R"({"last":1})");
  stopping.join();
  EXPECT_FALSE(RawSocket(router_->address()).connected());
}

TEST_F(RouterTest, DrainCutsWhatOutlivesIt) {
  config_.drain = 10ms;
  start(1, 1);
  auto running = post("{}");
  const ExchangePtr decode = decoders_[0]->next();
  router_->stop();
  expect_openai_error(*running.get(), 503);
  EXPECT_TRUE(wait_until_gone(*decode));
}

TEST_F(RouterTest, HealthSaysWhichRoleHasNobody) {
  config_.health_period = 5ms;
  start(1, 1);
  const auto expect_health = [&](const char* status, int code, const char* why) {
    const auto deadline = now() + test::kPatience;
    http::Response health = get("/health");
    while (json::parse(health.body)["status"] != status) {
      ASSERT_LT(now(), deadline) << health.body;
      health = get("/health");
    }
    EXPECT_EQ(health.status, code) << health.body;
    EXPECT_THAT(json::parse(health.body).value("why", ""), StartsWith(why));
  };
  expect_health("ok", 200, "");
  prefillers_[0]->answer_health(500);
  expect_health("degraded", 200, "no prefiller is available");
  decoders_[0]->answer_health(500);
  expect_health("unavailable", 503, "no decoder is available");
  prefillers_[0]->answer_health(200);
  decoders_[0]->answer_health(200);
  expect_health("ok", 200, "");
}

TEST_F(RouterTest, HealthMissesNoPrefillerWhereNoneWasGiven) {
  start(0, 1);
  EXPECT_EQ(json::parse(get("/health").body)["status"], "ok");
}

TEST_F(RouterTest, MetricsAskForTheTokenAndClientsAreNotAsked) {
  config_.token = *Token::create("a-token-of-the-tests", "test");
  start(1, 1);
  const http::Response refused = get("/metrics");
  expect_openai_error(refused, 401);
  EXPECT_EQ(http::find_header(refused.headers, "WWW-Authenticate"), "Bearer");
  for (const auto& [value, status] :
       {std::pair{"Bearer another", 401}, std::pair{"Bearer a-token-of-the-tests", 200}}) {
    const auto response =
        client_.fetch(router_->address(), {"GET", "/metrics", {{"Authorization", value}}, ""});
    ASSERT_TRUE(response.ok());
    EXPECT_EQ(response->status, status) << value;
  }
  EXPECT_EQ(get("/health").status, 200);
  auto answer = post("{}");
  prefillers_[0]->next()->respond(200, kJson, "{}");
  decoders_[0]->next()->respond(200, kJson, "{}");
  EXPECT_EQ(answer.get()->status, 200);
}

TEST_F(RouterTest, CountsRequestsByCode) {
  start(1, 1);
  auto answer = post("{}");
  prefillers_[0]->next()->respond(200, kJson, "{}");
  decoders_[0]->next()->respond(200, kJson, "{}");
  EXPECT_EQ(answer.get()->status, 200);
  get("/no/such/page");
  const std::string metrics = get("/metrics").body;
  EXPECT_THAT(metrics,
              HasSubstr(R"(baton_router_requests_total{code="200",route="/v1/completions"} 1)"));
  EXPECT_THAT(metrics, HasSubstr(R"(baton_router_requests_total{code="404",route="other"} 1)"));
  EXPECT_THAT(metrics, HasSubstr("baton_router_e2e_request_latency_seconds_count 1"));
  EXPECT_THAT(metrics, HasSubstr(R"(baton_router_instance_healthy{role="decode")"));
}

}  // namespace
}  // namespace baton::router
