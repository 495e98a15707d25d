// The OpenAI API over real sockets, with a small random model.
#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>

#include "examples/reference_engine/server.h"
#include "router/http/client.h"
#include "router/http/event_loop.h"

namespace baton::reference {
namespace {

using nlohmann::json;

// The model takes a moment to make; all tests share it, none changes it.
Model& tiny_model() {
  static Model model = load_model("random:layers=2,context=512", 1).value();
  return model;
}

class ApiTest : public testing::Test {
 protected:
  ApiTest()
      : cache_(KvCache::create(tiny_model().llama->config(), 8, 64, 1).value()),
        engine_(*tiny_model().llama, *cache_, {.max_batch = 1, .max_queue = 2}, nullptr, metrics_),
        api_(ApiServer::listen(loop_, config(), tiny_model(), engine_, metrics_).value()),
        client_(loop_) {}
  ~ApiTest() override {
    engine_.stop();
    api_->stop(std::chrono::seconds(1));
  }

  static ApiConfig config() {
    ApiConfig config;
    config.listen.port = 0;
    config.model_name = "tiny";
    config.only_role = TransferRole::kDecode;
    return config;
  }
  http::Response send(const std::string& method, const std::string& path, std::string body = "") {
    auto response =
        client_.fetch(api_->address(), {.method = method, .target = path, .body = std::move(body)});
    EXPECT_TRUE(response.ok()) << response.status().to_string();
    return response.ok() ? *response : http::Response{};
  }
  http::Response complete(json body) {
    body.emplace("temperature", 0);
    body.emplace("ignore_eos", true);
    body.emplace("return_token_ids", true);
    const bool chat = body.contains("messages");
    return send("POST", chat ? "/v1/chat/completions" : "/v1/completions", body.dump());
  }
  void expect_error(const http::Response& response, int status, const char* param,
                    const std::string& part) {
    EXPECT_EQ(response.status, status) << response.body;
    EXPECT_EQ(http::find_header(response.headers, "Content-Type"), "application/json");
    const json error = json::parse(response.body)["error"];
    EXPECT_EQ(error["param"], param == nullptr ? json() : json(param)) << response.body;
    EXPECT_TRUE(error["code"].is_string()) << response.body;
    EXPECT_NE(error["message"].get<std::string>().find(part), std::string::npos) << response.body;
  }
  // Events of a stream, which must end by [DONE].
  static std::vector<json> events(std::string body) {
    std::vector<json> read;
    constexpr std::string_view kDone = "data: [DONE]\n\n";
    EXPECT_TRUE(body.ends_with(kDone)) << body;
    body.resize(body.size() - kDone.size());
    for (size_t at = 0, end; at < body.size(); at = end + 2) {
      end = body.find("\n\n", at);
      EXPECT_EQ(body.substr(at, 6), "data: ");
      read.push_back(json::parse(body.substr(at + 6, end - at - 6)));
    }
    return read;
  }

  Metrics metrics_;
  std::unique_ptr<KvCache> cache_;
  Engine engine_;
  http::EventLoop loop_;
  std::unique_ptr<ApiServer> api_;
  http::Client client_;
};

TEST_F(ApiTest, AnswersACompletion) {
  const auto response = complete({{"model", "tiny"}, {"prompt", "hello"}, {"max_tokens", 5}});
  ASSERT_EQ(response.status, 200) << response.body;
  const json answer = json::parse(response.body);
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["model"], "tiny");
  EXPECT_EQ(answer["choices"][0]["token_ids"].size(), 5u);
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"],
            (json{{"prompt_tokens", 5}, {"completion_tokens", 5}, {"total_tokens", 10}}));
  EXPECT_EQ(answer["kv_transfer_params"]["baton"]["prompt_tokens_computed"], 5);
}

TEST_F(ApiTest, TextAndItsTokensAreTheSamePrompt) {
  const json text = json::parse(complete({{"prompt", "abc"}}).body);
  const json tokens = json::parse(complete({{"prompt", {97, 98, 99}}}).body);
  EXPECT_EQ(text["choices"], tokens["choices"]);
  EXPECT_EQ(text["choices"][0]["token_ids"].size(), 16u);  // OpenAI's default
}

TEST_F(ApiTest, AStreamAddsUpToTheWholeAnswer) {
  const json whole = json::parse(complete({{"prompt", "stream me"}, {"max_tokens", 9}}).body);
  const auto response = complete({{"prompt", "stream me"},
                                  {"max_tokens", 9},
                                  {"stream", true},
                                  {"stream_options", {{"include_usage", true}}}});
  EXPECT_EQ(http::find_header(response.headers, "Content-Type"), "text/event-stream");
  std::string text;
  json tokens = json::array();
  const auto all = events(response.body);
  ASSERT_EQ(all.size(), 9u + 2u);
  for (const json& event : all)
    for (const json& choice : event["choices"]) {
      text += choice["text"].get<std::string>();
      for (const json& token : choice.value("token_ids", json::array())) tokens.push_back(token);
    }
  EXPECT_EQ(text, whole["choices"][0]["text"]);
  EXPECT_EQ(tokens, whole["choices"][0]["token_ids"]);
  EXPECT_EQ(all[9]["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(all[9]["kv_transfer_params"], whole["kv_transfer_params"]);
  EXPECT_EQ(all[10]["usage"], whole["usage"]);
}

TEST_F(ApiTest, AChatStreamBeginsWithTheRole) {
  const json messages = {{{"role", "user"}, {"content", "hi"}}};
  const json whole = json::parse(complete({{"messages", messages}, {"max_tokens", 3}}).body);
  EXPECT_EQ(whole["object"], "chat.completion");
  const auto all =
      events(complete({{"messages", messages}, {"max_tokens", 3}, {"stream", true}}).body);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(all[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_FALSE(all[1]["choices"][0]["delta"].contains("role"));
  std::string text;
  for (const json& event : all) text += event["choices"][0]["delta"].value("content", "");
  EXPECT_EQ(text, whole["choices"][0]["message"]["content"]);
}

TEST_F(ApiTest, StopsAtAStopString) {
  const json whole = json::parse(complete({{"prompt", "count"}, {"max_tokens", 40}}).body);
  const std::string text = whole["choices"][0]["text"];
  ASSERT_GT(text.size(), 8u);
  const std::string stop = text.substr(6, 2);
  const json cut =
      json::parse(complete({{"prompt", "count"}, {"max_tokens", 40}, {"stop", stop}}).body);
  EXPECT_EQ(cut["choices"][0]["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(cut["choices"][0]["finish_reason"], "stop");
  EXPECT_LT(cut["usage"]["completion_tokens"], 40);
}

TEST_F(ApiTest, SeededSamplingRepeats) {
  const auto sampled = [&](int seed) {
    const json answer =
        json::parse(complete({{"prompt", "dice"}, {"temperature", 1.5}, {"seed", seed}}).body);
    return answer["choices"][0]["token_ids"];
  };
  EXPECT_EQ(sampled(1), sampled(1));
  EXPECT_NE(sampled(1), sampled(2));
}

TEST_F(ApiTest, RefusesWhatItCannotServe) {
  expect_error(complete({{"prompt", "x"}, {"model", "other"}}), 404, "model", "'other'");
  const http::Response cut = send("POST", "/v1/completions", "{\"prompt\": ");
  expect_error(cut, 400, nullptr, "not valid JSON");
  EXPECT_EQ(json::parse(cut.body)["error"]["code"], "invalid_json");
  expect_error(complete({{"prompt", std::string(600, 'x')}, {"max_tokens", 1}}), 400, "prompt",
               "512");
  expect_error(complete({{"prompt", "x"}, {"max_tokens", 512}}), 400, "max_tokens", "512");
  expect_error(complete({{"prompt", {5000}}}), 400, "prompt", "5000");
  expect_error(complete({{"prompt", std::string(200'000, 'x')}}), 400, "prompt", "200000 bytes");
  expect_error(send("POST", "/v1/completions", std::string(10 << 20, ' ')), 413, nullptr, "");
  expect_error(send("GET", "/v1/completions"), 405, nullptr, "POST");
  expect_error(send("POST", "/v1/models"), 405, nullptr, "GET");
  expect_error(send("GET", "/v2"), 404, nullptr, "no such path");
  const auto handoff = [](const char* role) {
    return json{{"baton", {{"handoff", HandoffId::random().to_string()}, {"role", role}}}};
  };
  expect_error(complete({{"prompt", "x"}, {"kv_transfer_params", handoff("decode")}}), 400, nullptr,
               "no node");
  expect_error(complete({{"prompt", "x"}, {"kv_transfer_params", handoff("prefill")}}), 400,
               "kv_transfer_params", "--role decode");
  EXPECT_EQ(complete({{"prompt", "x"}}).status, 200);
}

TEST_F(ApiTest, TellsItsModelHealthAndMetrics) {
  EXPECT_EQ(json::parse(send("GET", "/v1/models").body)["data"][0]["id"], "tiny");
  EXPECT_EQ(json::parse(send("GET", "/health").body)["status"], "ok");
  complete({{"prompt", "hello"}});
  const std::string metrics = send("GET", "/metrics").body;
  EXPECT_NE(metrics.find("baton_prompt_tokens_computed_total 5"), std::string::npos) << metrics;
}

// A stream whose client takes its time: what it was told so far, and its end.
struct Listening {
  std::promise<void> begun;
  std::promise<http::CallEnd> ended;
  bool said = false;
};

std::shared_ptr<http::Call> listen(http::Client& client, const HostPort& to,
                                   const std::shared_ptr<Listening>& listening) {
  const json body{{"prompt", "long"}, {"max_tokens", 500}, {"ignore_eos", true}, {"stream", true}};
  return client.start(
      to, {.method = "POST", .target = "/v1/completions", .body = body.dump()}, {},
      {.on_body =
           [listening](std::string_view) {
             if (!std::exchange(listening->said, true)) listening->begun.set_value();
           },
       .on_end = [listening](const http::CallEnd& end) { listening->ended.set_value(end); }});
}

TEST_F(ApiTest, AClientThatGoesFreesItsPlace) {
  auto listening = std::make_shared<Listening>();
  auto call = listen(client_, api_->address(), listening);
  listening->begun.get_future().wait();
  call->cancel();
  EXPECT_EQ(listening->ended.get_future().get().status.code(), Code::kCancelled);
  // max_batch is 1: this one is answered only because the other is gone, and long before the
  // other's 500 tokens would be.
  EXPECT_EQ(complete({{"prompt", "next"}, {"max_tokens", 1}}).status, 200);
  const auto cancelled =
      metrics_.counter("baton_engine_requests_ended_total", "", {{"end", "cancelled"}}).Value();
  EXPECT_EQ(cancelled, 1);
}

// Holds the engine's thread at its first token until it may go on.
class HoldingSink final : public GenerationSink {
 public:
  HoldingSink(std::promise<void>& first, std::shared_future<void> go_on)
      : first_(first), go_on_(std::move(go_on)) {}
  bool on_token(uint32_t) override {
    first_.set_value();
    go_on_.wait();
    return false;
  }
  void on_end(const GenerationEnd&) override {}

 private:
  std::promise<void>& first_;
  const std::shared_future<void> go_on_;
};

TEST_F(ApiTest, AFullQueueIsTooManyRequests) {
  std::promise<void> first, go_on;
  const std::shared_future<void> may = go_on.get_future().share();
  const auto request = [] { return GenerationRequest{.name = "test", .prompt = {1}}; };
  ASSERT_TRUE(engine_.submit(request(), std::make_unique<HoldingSink>(first, may)).ok());
  first.get_future().wait();
  std::vector<std::promise<void>> waiting(2);
  for (auto& one : waiting)
    ASSERT_TRUE(engine_.submit(request(), std::make_unique<HoldingSink>(one, may)).ok());
  const auto response = complete({{"prompt", "x"}});
  expect_error(response, 429, nullptr, "queue is full");
  EXPECT_EQ(http::find_header(response.headers, "Retry-After"), "1");
  go_on.set_value();
  for (auto& one : waiting) one.get_future().wait();
  EXPECT_EQ(complete({{"prompt", "x"}}).status, 200);
}

}  // namespace
}  // namespace baton::reference
