#include <algorithm>
#include <set>

#include "router/openai.h"
#include "tests/router/router_fixture.h"

namespace baton::router {
namespace {

TEST_F(RouterTest, SendsBothLegsAtOnceAsSpecified) {
  start(1, 1);
  auto answer = post(
      R"({"model":"m","prompt":"hi","max_tokens":24,"temperature":0.70,"cache_salt":"s","x":1.50e+0})");
  // Both are here while neither has been answered.
  const ExchangePtr prefill = prefillers_[0]->next();
  const ExchangePtr decode = decoders_[0]->next();
  ASSERT_TRUE(prefill && decode);
  EXPECT_EQ(prefill->request().target, "/v1/completions");

  const std::string& sent = decode->request().body;
  EXPECT_THAT(sent, StartsWith(R"({"model":"m","prompt":"hi","max_tokens":24,"temperature":0.70,)"
                               R"("cache_salt":"s","x":1.50e+0,"kv_transfer_params":)"));
  const std::string& prefill_body = prefill->request().body;
  EXPECT_THAT(prefill_body, HasSubstr(R"("x":1.50e+0)"));
  const json p = baton_of(prefill);
  const json d = baton_of(decode);
  EXPECT_EQ(p["handoff"], d["handoff"]);
  EXPECT_TRUE(HandoffId::parse(p["handoff"].get<std::string>()).ok());
  EXPECT_EQ(p["role"], "prefill");
  EXPECT_EQ(d["role"], "decode");
  for (const json& leg : {p, d}) {
    EXPECT_EQ(leg["attempt"], 1);
    EXPECT_EQ(leg["flow"], "push");
    EXPECT_EQ(leg["salt"], "s");
    EXPECT_GT(leg["budget_ms"], 29000);
    EXPECT_LE(leg["budget_ms"], 30000);
  }
  EXPECT_EQ(p["peer"], json::array({node_of(0, Role::kDecode)}));
  EXPECT_EQ(d["peer"], json::array({node_of(0, Role::kPrefill)}));
  EXPECT_THAT(prefill_body, HasSubstr(R"("max_tokens":1,"stream":false)"));
  EXPECT_EQ(prefill_body.find("max_tokens\":24"), std::string::npos);

  prefill->respond(200, kJson, "{}");
  decode->respond(200, {{"Content-Type", "application/json"}, {"X-Own", "kept"}}, R"({"ok":1})");
  const auto response = answer.get();
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->body, R"({"ok":1})");
  EXPECT_EQ(http::find_header(response->headers, "x-own"), "kept");
  EXPECT_EQ(http::find_header(response->headers, "x-baton-handoff"), p["handoff"]);
  EXPECT_EQ(http::find_header(response->headers, "x-baton-attempts"), "1");
  EXPECT_EQ(http::find_header(response->headers, "x-baton-prefiller"), prefillers_[0]->url());
  EXPECT_EQ(http::find_header(response->headers, "x-baton-decoder"), decoders_[0]->url());
}

TEST_F(RouterTest, StreamsPieceByPiece) {
  start(1, 1);
  RawSocket socket = post_raw(R"({"stream":true,"stream_options":{"include_usage":true}})");
  const ExchangePtr prefill = prefillers_[0]->next();
  const ExchangePtr decode = decoders_[0]->next();
  EXPECT_FALSE(body_of(prefill).contains("stream_options"));
  EXPECT_EQ(body_of(prefill)["stream"], false);
  EXPECT_EQ(body_of(decode)["stream"], true);
  EXPECT_TRUE(body_of(decode).contains("stream_options"));
  EXPECT_FALSE(baton_of(decode).contains("salt"));
  ASSERT_TRUE(decode->start_stream(200, kEvents).ok());
  ASSERT_TRUE(decode->write("data: one\n\n").ok());
  const std::string head = socket.read_until("\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_THAT(head, HasSubstr("x-baton-handoff: "));
  // The first event is at the client before the second one exists.
  EXPECT_EQ(socket.read_until("one\n\n\r\n"), "b\r\ndata: one\n\n\r\n");
  ASSERT_TRUE(decode->write("data: two\n\n").ok());
  EXPECT_EQ(socket.read_until("two\n\n\r\n"), "b\r\ndata: two\n\n\r\n");
  decode->finish();
  EXPECT_EQ(socket.read_until("0\r\n\r\n"), "0\r\n\r\n");
  prefill->respond(200, kJson, "{}");
  EXPECT_THAT(get("/metrics").body, HasSubstr("baton_router_time_to_first_token_seconds_count 1"));
}

TEST_F(RouterTest, ClientGoneCancelsBothLegs) {
  start(1, 1);
  for (const char* body : {R"({"stream":true})", R"({"stream":false})"}) {
    RawSocket socket = post_raw(body);
    const ExchangePtr prefill = prefillers_[0]->next();
    const ExchangePtr decode = decoders_[0]->next();
    socket.close();
    EXPECT_TRUE(wait_until_gone(*prefill)) << body;
    EXPECT_TRUE(wait_until_gone(*decode)) << body;
  }
  EXPECT_THAT(get("/metrics").body, HasSubstr("baton_router_clients_gone_total 2"));
}

TEST_F(RouterTest, PrefillersFailureIsToldToTheDecodersNode) {
  config_.token = *Token::create("a-token-of-the-tests", "test");
  start(1, 1);
  for (const bool dies : {false, true}) {
    auto answer = post("{}");
    const ExchangePtr prefill = prefillers_[0]->next();
    const ExchangePtr decode = decoders_[0]->next();
    const json baton = baton_of(decode);
    if (dies) {
      prefillers_[0]->die();
    } else {
      prefill->respond(500, {}, "boom");
    }
    const ExchangePtr told = nodes_[0]->next();
    ASSERT_TRUE(told);
    EXPECT_EQ(told->request().method, "POST");
    EXPECT_EQ(told->request().target, "/handoffs/" + baton["handoff"].get<std::string>() + "/fail");
    EXPECT_EQ(http::find_header(told->request().headers, "Authorization"),
              "Bearer a-token-of-the-tests");
    for (const ExchangePtr& leg : {prefill, decode})  // the token is for nodes only
      EXPECT_EQ(http::find_header(leg->request().headers, "Authorization"), "");
    EXPECT_EQ(body_of(told)["attempt"], 1);
    EXPECT_THAT(
        body_of(told)["reason"].get<std::string>(),
        HasSubstr(dies ? "the connection to it was lost before it answered: " : "it answered 500"));
    told->respond(200, {}, "");
    decode->respond(200, kJson, R"({"text":"computed by itself"})");
    EXPECT_EQ(answer.get()->status, 200);
  }
}

TEST_F(RouterTest, AnAnswerSaysWhyNothingWasHandedOff) {
  start(1, 1);
  prefillers_[0]->die();
  auto first = post("{}");  // the router finds out
  decoders_[0]->next()->respond(200, kJson, "{}");
  first.get();
  // An engine that is asked for no handoff says nothing of one.
  auto answer = post("{}");
  decoders_[0]->next()->respond(200, kJson, R"({"x":1.50e+0,"kv_transfer_params":null})");
  const std::string body = answer.get()->body;
  EXPECT_THAT(body, StartsWith(R"({"x":1.50e+0,)"));
  const json said = json::parse(body)["kv_transfer_params"]["baton"];
  EXPECT_EQ(said["end"], "failed");
  EXPECT_EQ(said["why"], "no prefiller is healthy");
  // One that does is left alone, and so is an error.
  for (const int status : {200, 400}) {
    const std::string own = status == 200 ? R"({"kv_transfer_params":{"own":1}})" : R"({"no":1})";
    auto other = post("{}");
    decoders_[0]->next()->respond(status, kJson, own);
    EXPECT_EQ(other.get()->body, own);
  }
}

TEST_F(RouterTest, AnErrorSaysWhatBecameOfTheDecoder) {
  start(1, 1);
  for (const bool answering : {false, true}) {
    if (answering) decoders_[0]->revive();
    auto answer = post("{}");
    const ExchangePtr decode = decoders_[0]->next();
    ASSERT_TRUE(decode);
    if (answering) {
      ASSERT_TRUE(decode->start_stream(200, kJson).ok());
      ASSERT_TRUE(decode->write("{").ok());
    }
    decoders_[0]->die();
    EXPECT_THAT(answer.get()->body,
                HasSubstr(answering ? "the connection to it was lost in the midst of its answer: "
                                    : "the connection to it was lost before it answered: "));
  }
}

TEST_F(RouterTest, PrefillerThatIsNotThereIsLeftOutUntilItComesBack) {
  config_.health_period = 5ms;
  start(1, 1);
  prefillers_[0]->die();
  // The first request may still be sent to it; when that fails, it is avoided.
  auto first = post("{}");
  decoders_[0]->next()->respond(200, kJson, "{}");
  EXPECT_EQ(first.get()->status, 200);
  const auto deadline = now() + test::kPatience;
  while (json::parse(get("/health").body)["prefillers"]["healthy"] != 0) {
    ASSERT_LT(now(), deadline);
  }
  auto second = post("{}");
  const ExchangePtr alone = decoders_[0]->next();
  EXPECT_EQ(alone->request().body, "{}") << "byte for byte, and no handoff";
  alone->respond(200, kJson, "{}");
  EXPECT_EQ(second.get()->status, 200);
  prefillers_[0]->revive();
  while (json::parse(get("/health").body)["prefillers"]["healthy"] != 1) {
    ASSERT_LT(now(), deadline);
  }
  auto third = post("{}");
  const ExchangePtr prefill = prefillers_[0]->next();
  ASSERT_TRUE(prefill);
  prefill->respond(200, kJson, "{}");
  decoders_[0]->next()->respond(200, kJson, "{}");
  EXPECT_EQ(third.get()->status, 200);
}

// A router that was started beside its engines is not behind them by a period.
TEST_F(RouterTest, EnginesThatCameSinceTheLastProbeAreSeenBeforeARequestIsRefused) {
  config_.health_period = 1h;
  start(1, 1);
  prefillers_[0]->die();
  decoders_[0]->die();
  expect_openai_error(*post("{}").get(), 502);  // believed until then
  expect_openai_error(*post("{}").get(), 503);
  expect_openai_error(get("/v1/models"), 503);
  decoders_[0]->hold_health();
  prefillers_[0]->revive();
  decoders_[0]->revive();
  auto answer = post("{}");
  const auto deadline = now() + test::kPatience;
  while (json::parse(get("/health").body)["prefillers"]["healthy"] != 1) ASSERT_LT(now(), deadline);
  decoders_[0]->release_health();
  const ExchangePtr prefill = prefillers_[0]->next();
  const ExchangePtr decode = decoders_[0]->next();
  ASSERT_TRUE(prefill && decode) << "both: it is handed off";
  prefill->respond(200, kJson, "{}");
  decode->respond(200, kJson, R"({"text":"here"})");
  EXPECT_EQ(answer.get()->body, R"({"text":"here"})");
}

TEST_F(RouterTest, ARequestWaitsForAPrefillerThatMayHaveComeUpWithItsDecoder) {
  config_.health_period = 1h;
  config_.health_deadline = 1h;
  config_.prefiller_grace = 1h;
  start(1, 1);
  lose_first_of_each();
  prefillers_[0]->hold_health();
  prefillers_[0]->revive();
  decoders_[0]->revive();
  auto answer = post("{}");
  prefillers_[0]->wait_for_probe();
  wait_for_healthy_decoders(1);
  // Also who comes when the decoder is known to be there already.
  auto second = post("{}");
  const auto deadline = now() + test::kPatience;
  while (json::parse(get("/health").body)["in_flight"] != 2) ASSERT_LT(now(), deadline);
  EXPECT_TRUE(decoders_[0]->empty());
  prefillers_[0]->release_health();
  for (int i = 0; i < 2; ++i) {
    const ExchangePtr prefill = prefillers_[0]->next();
    const ExchangePtr decode = decoders_[0]->next();
    ASSERT_TRUE(prefill && decode) << "both: it is handed off";
    prefill->respond(200, kJson, "{}");
    decode->respond(200, kJson, "{}");
  }
  EXPECT_EQ(answer.get()->status, 200);
  EXPECT_EQ(second.get()->status, 200);
}

TEST_F(RouterTest, ARequestWaitsForAPrefillerNoLongerThanTheGrace) {
  config_.health_period = 1h;
  config_.health_deadline = 1h;
  config_.prefiller_grace = 20ms;
  start(1, 1);
  lose_first_of_each();
  prefillers_[0]->hold_health();
  prefillers_[0]->revive();
  decoders_[0]->revive();
  auto answer = post("{}");
  prefillers_[0]->wait_for_probe();
  const ExchangePtr decode = decoders_[0]->next();
  ASSERT_TRUE(decode);
  EXPECT_EQ(decode->request().body, "{}") << "it computes by itself";
  decode->respond(200, kJson, R"({"text":"here"})");
  EXPECT_THAT(answer.get()->body, StartsWith(R"({"text":"here",)"));
}

// Nor at all for one that was looked at since the decoder came up.
TEST_F(RouterTest, NobodyWaitsForAPrefillerThatIsKnownToBeGone) {
  config_.health_period = 1h;
  config_.health_deadline = 1h;
  config_.prefiller_grace = 1h;
  start(1, 1);
  lose_first_of_each();
  prefillers_[0]->answer_health(500);
  prefillers_[0]->revive();
  decoders_[0]->revive();
  for (int i = 0; i < 2; ++i) {
    auto answer = post("{}");
    const ExchangePtr decode = decoders_[0]->next();
    ASSERT_TRUE(decode);
    EXPECT_EQ(decode->request().body, "{}") << "it computes by itself";
    decode->respond(200, kJson, "{}");
    EXPECT_EQ(answer.get()->status, 200);
    prefillers_[0]->hold_health();
  }
}

TEST_F(RouterTest, ARequestWaitsForAProbeNoLongerThanItsBudgetAndItsClient) {
  config_.health_period = 1h;
  config_.health_deadline = 1h;
  config_.budget = 300ms;
  start(0, 1);
  decoders_[0]->die();
  expect_openai_error(*post("{}").get(), 502);
  decoders_[0]->hold_health();
  decoders_[0]->revive();
  expect_openai_error(*post("{}").get(), 504);
  post_raw("{}").close();
  const auto deadline = now() + test::kPatience;
  while (get("/metrics").body.find("baton_router_clients_gone_total 1") == std::string::npos)
    ASSERT_LT(now(), deadline);
  EXPECT_TRUE(decoders_[0]->empty());
}

TEST_F(RouterTest, DecoderIsReplacedByOneThatFetches) {
  start(1, 2);
  for (const bool stream : {false, true}) {
    auto answer = post(json{{"stream", stream}, {"prompt", "p"}}.dump());
    const ExchangePtr prefill = prefillers_[0]->next();
    // Round robin: the first request goes to the first decoder, the second one to the second.
    FakeEngine& first = *decoders_[stream ? 1 : 0];
    FakeEngine& second = *decoders_[stream ? 0 : 1];
    const ExchangePtr failing = first.next();
    const json before = baton_of(failing);
    failing->respond(503, kJson, R"({"error":{"message":"no room"}})");
    // What is not computed cannot be fetched: the other decoder is asked when the prefiller is
    // done.
    prefill->respond(200, kJson, "{}");
    const ExchangePtr retry = second.next();
    ASSERT_TRUE(retry);
    const json after = baton_of(retry);
    EXPECT_EQ(after["handoff"], before["handoff"]);
    EXPECT_EQ(after["attempt"], 2);
    EXPECT_EQ(after["flow"], "fetch");
    EXPECT_EQ(after["role"], "decode");
    EXPECT_EQ(after["peer"], json::array({node_of(0, Role::kPrefill)}));
    EXPECT_LE(after["budget_ms"], before["budget_ms"]);
    EXPECT_EQ(body_of(retry)["prompt"], "p");
    retry->respond(200, kJson, R"({"text":"moved"})");
    const auto response = answer.get();
    ASSERT_TRUE(response.ok());
    EXPECT_EQ(response->body, R"({"text":"moved"})");
    EXPECT_EQ(http::find_header(response->headers, "x-baton-attempts"), "2");
    EXPECT_EQ(http::find_header(response->headers, "x-baton-decoder"), second.url());
  }
  EXPECT_THAT(get("/metrics").body, HasSubstr("baton_router_retries_total 2"));
}

TEST_F(RouterTest, DecoderThatDiesIsReplacedAlsoInTheMidstOfAJsonAnswer) {
  start(1, 2);
  auto answer = post("{}");
  prefillers_[0]->next()->respond(200, kJson, "{}");
  const ExchangePtr dying = decoders_[0]->next();
  ASSERT_TRUE(dying->start_stream(200, kJson).ok());
  ASSERT_TRUE(dying->write(R"({"text":"hal)").ok());
  decoders_[0]->die();
  const ExchangePtr retry = decoders_[1]->next();
  ASSERT_TRUE(retry);
  EXPECT_EQ(baton_of(retry)["attempt"], 2);
  retry->respond(200, kJson, R"({"text":"whole"})");
  EXPECT_EQ(answer.get()->body, R"({"text":"whole"})");
}

TEST_F(RouterTest, BothFailing_TheNextDecoderComputesByItself) {
  start(1, 2);
  auto answer = post(R"({"prompt":"p"})");
  const ExchangePtr prefill = prefillers_[0]->next();
  const ExchangePtr decode = decoders_[0]->next();
  prefill->respond(500, {}, "");
  nodes_[0]->next()->respond(200, {}, "");
  decode->respond(500, {}, "");
  const ExchangePtr retry = decoders_[1]->next();
  EXPECT_EQ(retry->request().body, R"({"prompt":"p"})");
  retry->respond(200, kJson, "{}");
  EXPECT_EQ(answer.get()->status, 200);
}

TEST_F(RouterTest, NoOtherDecoderIsAClearError) {
  start(1, 1);
  auto answer = post("{}");
  prefillers_[0]->next()->respond(200, kJson, "{}");
  decoders_[0]->next()->respond(500, kJson, R"({"error":{"message":"out of luck"}})");
  auto response = answer.get();
  expect_openai_error(*response, 502);
  EXPECT_THAT(response->body, HasSubstr("out of luck"));
  answer = post("{}");
  decoders_[0]->next()->respond(503, {}, std::string(499, 'x') + "é, where a quotation ends");
  response = answer.get();
  expect_openai_error(*response, 503);
  EXPECT_THAT(response->body, HasSubstr("xxx\""));
  decoders_[0]->die();
  wait_for_healthy_decoders(0);
  response = post("{}").get();
  expect_openai_error(*response, 503);
  EXPECT_THAT(response->body, HasSubstr("no decoder is available"));
}

TEST_F(RouterTest, FullDecodersAnswerIsPassedOnWithRetryAfter) {
  start(1, 2);
  const std::string full = R"({"error":{"message":"full"}})";
  auto answer = post("{}");
  prefillers_[0]->next()->respond(200, kJson, "{}");
  decoders_[0]->next()->respond(429, kJson, full);
  decoders_[1]->next()->respond(429, {{"Retry-After", "7"}}, full);
  const auto response = answer.get();
  EXPECT_EQ(response->status, 429);
  EXPECT_EQ(response->body, full);
  EXPECT_EQ(http::find_header(response->headers, "Retry-After"), "7");
}

TEST_F(RouterTest, EnginesRefusalOfABadRequestIsPassedOnAsItIs) {
  start(1, 2);
  const std::string refusal = R"({"error":{"message":"the prompt is too long"}})";
  for (const char* body : {"{}", R"({"stream":true})"}) {
    auto answer = post(body);
    prefillers_[0]->next()->respond(400, kJson, refusal);
    const bool first = std::string(body) == "{}";
    nodes_[first ? 0 : 1]->next()->respond(200, {}, "");
    decoders_[first ? 0 : 1]->next()->respond(400, kJson, refusal);
    const auto response = answer.get();
    EXPECT_EQ(response->status, 400);
    EXPECT_EQ(response->body, refusal);
    EXPECT_EQ(http::find_header(response->headers, "Content-Type"), "application/json");
  }
  EXPECT_TRUE(decoders_[0]->empty() && decoders_[1]->empty()) << "no retry";
  const std::string metrics = get("/metrics").body;
  EXPECT_THAT(metrics, Not(HasSubstr("baton_router_legs_failed_total{")));
  EXPECT_THAT(metrics, HasSubstr(R"(code="400",route="/v1/completions"} 2)"));
  EXPECT_EQ(json::parse(get("/health").body)["prefillers"]["healthy"], 1);
}

TEST_F(RouterTest, APrefillerThatAloneRefusesARequestHasFailed) {
  start(1, 1);
  auto answer = post("{}");
  prefillers_[0]->next()->respond(404, kJson, R"({"error":{"message":"another model"}})");
  nodes_[0]->next()->respond(200, {}, "");
  decoders_[0]->next()->respond(200, kJson, R"({"text":"computed by itself"})");
  EXPECT_EQ(answer.get()->status, 200);
  EXPECT_THAT(get("/metrics").body,
              HasSubstr(R"(baton_router_legs_failed_total{reason="http_404",role="prefill"} 1)"));
}

TEST_F(RouterTest, APrefillersRefusalThatNoDecoderContradictsIsNoFailure) {
  start(1, 1);
  auto answer = post("{}");
  prefillers_[0]->next()->respond(400, kJson, R"({"error":{"message":"too long"}})");
  nodes_[0]->next()->respond(200, {}, "");
  decoders_[0]->next()->respond(503, {}, "");
  expect_openai_error(*answer.get(), 503);
  EXPECT_THAT(get("/metrics").body, Not(HasSubstr(R"(role="prefill"} 1)")));
}

// The client need not wait for the stream's end to be counted.
TEST_F(RouterTest, APrefillerThatRefusesWhatStreamsHasFailedAtOnce) {
  start(1, 1);
  RawSocket socket = post_raw(R"({"stream":true})");
  const ExchangePtr prefill = prefillers_[0]->next();
  const ExchangePtr decode = decoders_[0]->next();
  ASSERT_TRUE(decode->start_stream(200, kEvents).ok());
  ASSERT_TRUE(decode->write("data: 1\n\n").ok());
  socket.read_until("data: 1");
  prefill->respond(400, kJson, R"({"error":{"message":"too long"}})");
  nodes_[0]->next()->respond(200, {}, "");  // the decoder's node hears of it after it was counted
  EXPECT_THAT(get("/metrics").body,
              HasSubstr(R"(baton_router_legs_failed_total{reason="http_400",role="prefill"} 1)"));
  decode->abort();
}

TEST_F(RouterTest, BrokenStreamEndsWithAnErrorEvent) {
  start(1, 2);
  RawSocket socket = post_raw(R"({"stream":true})");
  prefillers_[0]->next()->respond(200, kJson, "{}");
  const ExchangePtr decode = decoders_[0]->next();
  ASSERT_TRUE(decode->start_stream(200, kEvents).ok());
  ASSERT_TRUE(decode->write("data: {\"half\":").ok());
  socket.read_until("half\":\r\n");
  decode->abort();
  const std::string rest = socket.read_until("0\r\n\r\n");
  EXPECT_THAT(rest, HasSubstr("\n\ndata: {\"error\":{"));
  EXPECT_THAT(rest, HasSubstr("\n\n\r\n0\r\n\r\n"));
  EXPECT_TRUE(decoders_[1]->empty());
}

TEST_F(RouterTest, NothingOutlivesItsBudget) {
  config_.budget = 400ms;
  start(1, 2);
  auto answer = post("{}");
  const ExchangePtr prefill = prefillers_[0]->next();
  const ExchangePtr decode = decoders_[0]->next();
  expect_openai_error(*answer.get(), 504);
  EXPECT_TRUE(wait_until_gone(*prefill));
  EXPECT_TRUE(wait_until_gone(*decode));

  RawSocket socket = post_raw(R"({"stream":true})");
  const ExchangePtr streaming = decoders_[1]->next();
  ASSERT_TRUE(streaming->start_stream(200, kEvents).ok());
  ASSERT_TRUE(streaming->write("data: x\n\n").ok());
  EXPECT_THAT(socket.read_until("0\r\n\r\n"), HasSubstr("budget_exceeded"));
  EXPECT_TRUE(wait_until_gone(*streaming));
}

TEST_F(RouterTest, BudgetThatTheEngineSawEndIsFinal) {
  start(1, 2);
  size_t turn = 0;
  for (const char* body : {"{}", R"({"stream":true})"}) {
    auto answer = post(body);
    const ExchangePtr prefill = prefillers_[0]->next();
    decoders_[turn++]->next()->respond(504, kJson, R"({"error":{"message":"out of time"}})");
    const auto response = answer.get();
    expect_openai_error(*response, 504);
    EXPECT_EQ(json::parse(response->body)["error"]["code"], "budget_exceeded");
    EXPECT_THAT(response->body, HasSubstr("out of time"));
    EXPECT_TRUE(wait_until_gone(*prefill)) << "nobody waits for it";
  }
  EXPECT_TRUE(decoders_[0]->empty() && decoders_[1]->empty()) << "no retry";
  EXPECT_THAT(get("/metrics").body, Not(HasSubstr("baton_router_legs_failed_total{")));
}

TEST_F(RouterTest, PrefillerThatNeverEndsDoesNotHoldUpTheRetry) {
  config_.budget = 2s;
  start(1, 2);
  auto answer = post(R"({"p":1})");
  const ExchangePtr prefill = prefillers_[0]->next();
  decoders_[0]->next()->respond(503, {}, "");
  const ExchangePtr retry = decoders_[1]->next();  // after half of what is left of the budget
  ASSERT_TRUE(retry);
  EXPECT_EQ(retry->request().body, R"({"p":1})");
  retry->respond(200, kJson, "{}");
  EXPECT_EQ(answer.get()->status, 200);
  EXPECT_TRUE(wait_until_gone(*prefill));
}

TEST_F(RouterTest, StoppedDecoderIsFoundByItsHealthAndReplaced) {
  config_.health_period = 5ms;
  start(1, 2);
  auto answer = post("{}");
  prefillers_[0]->next()->respond(200, kJson, "{}");
  const ExchangePtr stuck = decoders_[0]->next();
  decoders_[0]->answer_health(500);
  const ExchangePtr retry = decoders_[1]->next();
  ASSERT_TRUE(retry);
  EXPECT_EQ(baton_of(retry)["flow"], "fetch");
  EXPECT_TRUE(wait_until_gone(*stuck));
  retry->respond(200, kJson, "{}");
  EXPECT_EQ(answer.get()->status, 200);
  wait_for_healthy_decoders(1);
  decoders_[0]->answer_health(200);
  wait_for_healthy_decoders(2);
}

TEST_F(RouterTest, FiftyAtOnce) {
  start(2, 2);
  constexpr int kRequests = 50;
  std::vector<std::future<Result<http::Response>>> answers;
  for (int i = 0; i < kRequests; ++i) answers.push_back(post(json{{"n", i}}.dump()));
  std::set<std::string> handoffs;
  std::vector<ExchangePtr> waiting;  // none is answered before all are there
  for (int i = 0; i < kRequests; ++i) {
    prefillers_[i % 2]->next()->respond(200, kJson, "{}");
    waiting.push_back(decoders_[i % 2]->next());
  }
  EXPECT_THAT(get("/metrics").body, HasSubstr("baton_router_requests_in_flight 50"));
  for (const ExchangePtr& e : waiting) {
    handoffs.insert(baton_of(e)["handoff"]);
    e->respond(200, kJson, body_of(e)["n"].dump());
  }
  EXPECT_EQ(handoffs.size(), size_t{kRequests});
  for (int i = 0; i < kRequests; ++i) EXPECT_EQ(answers[i].get()->body, std::to_string(i));
  EXPECT_THAT(get("/metrics").body, HasSubstr("baton_router_requests_in_flight 0"));
}

TEST_F(RouterTest, ASlowReaderHoldsBackItsDecoderOnly) {
  start(1, 1);
  RawSocket socket = post_raw(R"({"stream":true})", 4096);
  prefillers_[0]->next()->respond(200, kJson, "{}");
  const ExchangePtr decode = decoders_[0]->next();
  ASSERT_TRUE(decode->start_stream(200, kEvents).ok());
  const std::string event = "data: " + std::string(64 << 10, 'x') + "\n\n";
  // More than socket buffers and the router's bound take: it arrives whole all the same, because
  // the router reads no further than its client does, and waits at the decoder until then.
  constexpr int kEventsSent = 60;
  for (int i = 0; i < kEventsSent; ++i) ASSERT_TRUE(decode->write(event).ok()) << i;
  auto other = post("{}");
  decoders_[0]->next()->respond(200, kJson, R"({"quick":1})");
  EXPECT_EQ(other.get()->body, R"({"quick":1})");
  decode->finish();
  socket.read_until("\r\n\r\n");
  const std::string events = socket.read_until("\r\n0\r\n\r\n");
  EXPECT_EQ(std::count(events.begin(), events.end(), 'x'), kEventsSent * (64 << 10));
}

}  // namespace
}  // namespace baton::router
