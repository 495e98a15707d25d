#include "router/registry.h"

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "tests/fakes/fake_engine.h"

namespace baton::router {
namespace {

using namespace std::chrono_literals;
using test::FakeEngine;

// A registry whose instances are lost, so that only look_again() finds them.
class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() {
    config_.health_period = 1h;
    config_.health_deadline = 1h;
  }
  ~RegistryTest() override {
    if (registry_) registry_->stop();
    client_.reset();
  }

  void start(size_t prefillers, size_t decoders) {
    for (size_t i = 0; i < prefillers + decoders; ++i) {
      engines_.push_back(std::make_unique<FakeEngine>(loop_));
      engines_.back()->answer_health(500);
      auto instance = InstanceConfig::parse(engines_.back()->url() + "=10.0.0.1:7000");
      ASSERT_TRUE(instance.ok()) << instance.status().to_string();
      (i < prefillers ? config_.prefillers : config_.decoders).push_back(*instance);
    }
    registry_ = std::make_unique<Registry>(config_, loop_, *client_, metrics_);
    on_loop([&] {
      for (size_t i = 0; i < engines_.size(); ++i) registry_->report_lost(i, "the test says so");
    });
    // Joins the probes that began with the registry: none of a decoder is under way afterwards.
    ASSERT_FALSE(decoder_found(look()));
  }
  void on_loop(const std::function<void()>& function) {
    std::promise<void> done;
    loop_.post([&] {
      function();
      done.set_value();
    });
    done.get_future().wait();
  }
  // Its result: whether a decoder is healthy at its end.
  std::future<bool> look() {
    auto done = std::make_shared<std::promise<bool>>();
    loop_.post([this, done] {
      registry_->look_again(Registry::Wanted::kDecoder, [this, done] {
        done->set_value(registry_->any_healthy(Role::kDecode));
      });
    });
    return done->get_future();
  }
  static bool decoder_found(std::future<bool> look) {
    const bool ended = look.wait_for(test::kPatience) == std::future_status::ready;
    EXPECT_TRUE(ended) << "the look has no end";
    return ended && look.get();
  }

  RouterConfig config_;
  Metrics metrics_;
  http::EventLoop loop_;
  std::unique_ptr<http::Client> client_ = std::make_unique<http::Client>(loop_);
  std::vector<std::unique_ptr<FakeEngine>> engines_;  // prefillers, then decoders
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, ALookEndsWithTheFirstDecoder) {
  start(1, 2);
  engines_[0]->hold_health();
  engines_[1]->hold_health();
  engines_[2]->answer_health(200);
  EXPECT_TRUE(decoder_found(look()));
  engines_[1]->wait_for_probe();
  EXPECT_TRUE(decoder_found(look())) << "one is healthy already";
  engines_[1]->release_health();  // its probe's end finds that the look is over
  const auto deadline = now() + test::kPatience;
  for (bool both = false; !both;) {
    ASSERT_LT(now(), deadline);
    on_loop([&] { both = registry_->snapshot(Role::kDecode)[0].healthy; });
  }
}

TEST_F(RegistryTest, ALookEndsWhenNoDecoderIsLeftThatMayAnswer) {
  start(1, 2);
  engines_[0]->hold_health();
  engines_[1]->hold_health();
  auto waiting = look();
  engines_[1]->wait_for_probe();
  EXPECT_EQ(waiting.wait_for(0s), std::future_status::timeout) << "the first decoder may answer";
  engines_[1]->die();
  EXPECT_FALSE(decoder_found(std::move(waiting)));
}

TEST_F(RegistryTest, StopEndsTheLooksThatWaitAndThoseThatCome) {
  start(1, 1);
  engines_[1]->hold_health();
  auto one = look();
  auto two = look();
  engines_[1]->wait_for_probe();
  on_loop([] {});  // both have begun
  registry_->stop();
  EXPECT_FALSE(decoder_found(std::move(one)));
  EXPECT_FALSE(decoder_found(std::move(two)));
  EXPECT_FALSE(decoder_found(look()));
}

}  // namespace
}  // namespace baton::router
