// A real router between fake engines, on loopback.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "router/http/client.h"
#include "router/registry.h"
#include "router/router.h"
#include "tests/fakes/fake_engine.h"
#include "tests/fakes/raw_socket.h"

namespace baton::router {

using namespace std::chrono_literals;
using nlohmann::json;
using test::FakeEngine;
using test::RawSocket;
using test::wait_until_gone;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ExchangePtr = std::shared_ptr<http::Exchange>;

inline const http::Headers kJson = {{"Content-Type", "application/json"}};
inline const http::Headers kEvents = {{"Content-Type", "text/event-stream"}};

class RouterTest : public ::testing::Test {
 protected:
  // The control address of an instance's node; nobody listens there, routers only name it.
  static std::string node_of(size_t i, Role role) {
    return (role == Role::kPrefill ? "10.0.0.1:" : "10.0.0.2:") + std::to_string(7000 + i);
  }

  void start(size_t prefillers, size_t decoders) {
    config_.listen = {"127.0.0.1", 0};
    config_.policy = scheduler::PairingPolicy::kRoundRobin;
    for (size_t i = 0; i < prefillers; ++i) {
      prefillers_.push_back(std::make_unique<FakeEngine>(loop_));
      add(config_.prefillers, prefillers_.back()->url() + "=" + node_of(i, Role::kPrefill));
    }
    for (size_t i = 0; i < decoders; ++i) {
      decoders_.push_back(std::make_unique<FakeEngine>(loop_));
      nodes_.push_back(std::make_unique<FakeEngine>(loop_));
      add(config_.decoders, decoders_.back()->url() + "=" + node_of(i, Role::kDecode) + "@" +
                                nodes_.back()->address().to_string());
    }
    auto router = Router::create(config_);
    ASSERT_TRUE(router.ok()) << router.status().to_string();
    router_ = std::move(router).value();
  }

  std::future<Result<http::Response>> post(std::string body,
                                           std::string target = "/v1/completions") {
    return std::async(std::launch::async, [this, body, target] {
      return client_.fetch(router_->address(), {"POST", target, kJson, body});
    });
  }
  http::Response get(const std::string& target, const std::string& method = "GET") {
    auto response = client_.fetch(router_->address(), {method, target, {}, ""});
    EXPECT_TRUE(response.ok()) << response.status().to_string();
    return response.ok() ? *response : http::Response{};
  }
  RawSocket post_raw(const std::string& body, int receive_buffer = 0) {
    RawSocket socket(router_->address(), receive_buffer);
    socket.send("POST /v1/completions HTTP/1.1\r\nHost: r\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
    return socket;
  }
  // Waits, by asking, until the router reports so many healthy decoders.
  void wait_for_healthy_decoders(int count) {
    const auto deadline = now() + test::kPatience;
    while (json::parse(get("/health").body)["decoders"]["healthy"] != count) {
      ASSERT_LT(now(), deadline);
    }
  }

  // Ends the first of each role; the router knows of it by what requests met, without a probe.
  void lose_first_of_each() {
    prefillers_[0]->die();
    auto answer = post("{}");
    const ExchangePtr decode = decoders_[0]->next();
    const auto deadline = now() + test::kPatience;
    while (json::parse(get("/health").body)["prefillers"]["healthy"] != 0)
      ASSERT_LT(now(), deadline);
    decode->respond(200, kJson, "{}");
    EXPECT_EQ(answer.get()->status, 200);
    decoders_[0]->die();
    expect_openai_error(*post("{}").get(), 502);
  }

  static json body_of(const ExchangePtr& e) { return json::parse(e->request().body); }
  static json baton_of(const ExchangePtr& e) { return body_of(e)["kv_transfer_params"]["baton"]; }
  static void expect_openai_error(const http::Response& response, int status) {
    EXPECT_EQ(response.status, status);
    const json error = json::parse(response.body, nullptr, false);
    ASSERT_TRUE(error.is_object()) << response.body;
    for (const char* field : {"message", "type", "param", "code"}) {
      EXPECT_TRUE(error["error"].contains(field)) << response.body;
    }
    EXPECT_TRUE(error["error"]["code"].is_string()) << response.body;
  }

  RouterConfig config_;
  http::EventLoop loop_;
  http::Client client_{loop_};
  std::vector<std::unique_ptr<FakeEngine>> prefillers_;
  std::vector<std::unique_ptr<FakeEngine>> decoders_;
  std::vector<std::unique_ptr<FakeEngine>> nodes_;  // of the decoders
  std::unique_ptr<Router> router_;

 private:
  static void add(std::vector<InstanceConfig>& to, const std::string& text) {
    auto instance = InstanceConfig::parse(text);
    ASSERT_TRUE(instance.ok()) << instance.status().to_string();
    to.push_back(*instance);
  }
};

}  // namespace baton::router
