// The engine with its thread.
#include "examples/reference_engine/engine.h"

#include <gtest/gtest.h>

#include <future>

#include "tests/examples/engine_harness.h"

namespace baton::reference {
namespace {

// Tells the test by a future, and can hold the engine's thread at the first token.
class WaitableSink final : public GenerationSink {
 public:
  struct Shared {
    std::promise<void> first;
    std::promise<GenerationEnd> end;
    std::shared_future<void> go_on;  // valid: the engine waits for it at the first token
    std::vector<uint32_t> tokens;
  };
  explicit WaitableSink(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  bool on_token(uint32_t token) override {
    shared_->tokens.push_back(token);
    if (shared_->tokens.size() == 1) {
      shared_->first.set_value();
      if (shared_->go_on.valid()) shared_->go_on.wait();
    }
    return true;
  }
  void on_end(const GenerationEnd& end) override { shared_->end.set_value(end); }

 private:
  const std::shared_ptr<Shared> shared_;
};

class EngineTest : public testing::Test {
 protected:
  EngineTest()
      : model_(Llama::create(tiny_model_source(), 1).value()),
        cache_(KvCache::create(model_->config(), 8, 64, 1).value()),
        engine_(*model_, *cache_, {.max_batch = 8, .max_queue = 3}, nullptr, metrics_) {}

  Result<uint64_t> submit(const std::shared_ptr<WaitableSink::Shared>& shared,
                          std::vector<uint32_t> prompt, uint32_t max_tokens) {
    return engine_.submit(
        {.name = "test", .prompt = std::move(prompt), .max_tokens = max_tokens, .ignore_eos = true},
        std::make_unique<WaitableSink>(shared));
  }
  // A request at whose first token the engine stands until the promise is kept.
  std::promise<void> hold() {
    std::promise<void> go_on;
    auto held = std::make_shared<WaitableSink::Shared>();
    held->go_on = go_on.get_future().share();
    EXPECT_TRUE(submit(held, prompt_of(4, 0), 2).ok());
    held->first.get_future().wait();
    return go_on;
  }

  Metrics metrics_;
  std::unique_ptr<Llama> model_;
  std::unique_ptr<KvCache> cache_;
  Engine engine_;
};

TEST_F(EngineTest, AnswersManyAtOnceAsOneAtATime) {
  auto go_on = hold();
  std::vector<std::shared_ptr<WaitableSink::Shared>> all;
  for (uint32_t i = 0; i < 3; ++i) {
    all.push_back(std::make_shared<WaitableSink::Shared>());
    ASSERT_TRUE(submit(all.back(), prompt_of(10 + i, i), 8).ok());
  }
  go_on.set_value();
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(all[i]->end.get_future().get().status.ok());
    EXPECT_EQ(all[i]->tokens, tokens_alone(prompt_of(10 + i, i), 8));
  }
}

TEST_F(EngineTest, RefusesWhatItsQueueDoesNotHold) {
  auto go_on = hold();
  std::vector<std::shared_ptr<WaitableSink::Shared>> all;
  for (uint32_t i = 0; i < 3; ++i) {
    all.push_back(std::make_shared<WaitableSink::Shared>());
    ASSERT_TRUE(submit(all.back(), prompt_of(10, i), 2).ok());
  }
  const auto refused =
      submit(std::make_shared<WaitableSink::Shared>(), prompt_of(10, 9), 2).status();
  EXPECT_EQ(refused.code(), Code::kResourceExhausted);
  EXPECT_NE(refused.message().find("3 requests"), std::string::npos) << refused.message();
  go_on.set_value();
  for (auto& one : all) EXPECT_TRUE(one->end.get_future().get().status.ok());
  auto later = std::make_shared<WaitableSink::Shared>();
  ASSERT_TRUE(submit(later, prompt_of(10, 9), 2).ok());
  EXPECT_TRUE(later->end.get_future().get().status.ok());
}

TEST_F(EngineTest, CancelsFromAnyThread) {
  auto go_on = hold();
  auto cancelled = std::make_shared<WaitableSink::Shared>();
  const auto id = submit(cancelled, prompt_of(10, 1), 400);
  ASSERT_TRUE(id.ok());
  engine_.cancel(*id);
  go_on.set_value();
  EXPECT_EQ(cancelled->end.get_future().get().status.code(), Code::kCancelled);
}

TEST_F(EngineTest, StoppingAnswersWhatWaits) {
  auto go_on = hold();
  auto waiting = std::make_shared<WaitableSink::Shared>();
  ASSERT_TRUE(submit(waiting, prompt_of(10, 1), 400).ok());
  go_on.set_value();
  engine_.stop();
  EXPECT_EQ(waiting->end.get_future().get().status.code(), Code::kUnavailable);
  EXPECT_EQ(submit(std::make_shared<WaitableSink::Shared>(), prompt_of(10, 1), 4).status().code(),
            Code::kUnavailable);
  EXPECT_EQ(cache_->free_blocks(), cache_->blocks());
}

TEST_F(EngineTest, NamesTheNumbersOfWhatCanNeverFit) {
  EXPECT_TRUE(engine_.check(500, 12).ok());  // context 512, as is the cache
  EXPECT_EQ(engine_.longest_answer(500), 12u);
  EXPECT_EQ(engine_.longest_answer(512), 0u);
  const Status context = engine_.check(600, 1);
  EXPECT_EQ(context.code(), Code::kInvalidArgument);
  EXPECT_NE(context.message().find("512"), std::string::npos) << context.message();
  EXPECT_NE(context.message().find("600"), std::string::npos) << context.message();

  const auto small = KvCache::create(model_->config(), 8, 4, 1).value();
  Engine engine(*model_, *small, {}, nullptr, metrics_);
  EXPECT_EQ(engine.longest_answer(30), 3u);
  const Status cache = engine.check(30, 4);
  EXPECT_NE(cache.message().find("32 tokens (4 blocks of 8)"), std::string::npos)
      << cache.message();
  EXPECT_NE(cache.message().find("30"), std::string::npos);
}

}  // namespace
}  // namespace baton::reference
