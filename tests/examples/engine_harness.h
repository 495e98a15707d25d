// An engine core over a small random model, requests whose tokens are kept, and handoffs that a
// test takes from state to state.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "examples/reference_engine/engine_core.h"

namespace baton::reference {

inline const ModelSource& tiny_model_source() {
  static const ModelSource source = ModelSource::parse("random:layers=2,context=512").value();
  return source;
}

// What became of one request.
struct Told {
  std::vector<uint32_t> tokens;
  std::optional<GenerationEnd> end;
  size_t enough_after = SIZE_MAX;  // tokens, then the sink says stop
};

class KeepingSink final : public GenerationSink {
 public:
  explicit KeepingSink(std::shared_ptr<Told> told) : told_(std::move(told)) {}
  bool on_token(uint32_t token) override {
    EXPECT_FALSE(told_->end) << "a token after the end";
    told_->tokens.push_back(token);
    return told_->tokens.size() < told_->enough_after;
  }
  void on_end(const GenerationEnd& end) override {
    EXPECT_FALSE(told_->end) << "a second end";
    told_->end = end;
  }

 private:
  const std::shared_ptr<Told> told_;
};

// Handoffs without a node: a test says what happens, and sees what the engine did. A handoff's
// blocks are in use until the test calls release(), which it can only after the engine let go.
class ScriptedTransfers final : public KvTransfers {
 public:
  struct Handoff {
    DecodeTransfer::Poll poll;
    std::vector<uint32_t> blocks;           // begun with or accepted
    std::map<uint32_t, uint32_t> computed;  // tokens by layer
    uint32_t cached = 0;                    // tokens, when it was begun
    bool begun = false, finished = false, aborted = false, done = false, refused = false;
    std::string why;
    Callback on_change, on_released;

    void change(DecodeTransfer::State state, uint32_t tokens = 0) {
      poll = {state, tokens,
              state == DecodeTransfer::State::kFailed ? Status(Code::kUnavailable, "scripted")
                                                      : ok_status()};
      on_change();
    }
    void release() { on_released(); }
  };

  // The latest handoff.
  Handoff& last() { return *handoffs_.back(); }
  // By the order in which they were started.
  Handoff& at(size_t i) { return *handoffs_.at(i); }
  Status refuse_with;  // when set, nothing can be started

  Result<std::unique_ptr<PrefillTransfer>> prefill(const TransferParams&,
                                                   const std::vector<uint32_t>&, Duration,
                                                   Callback on_released) override {
    if (!refuse_with.ok()) return refuse_with;
    return std::unique_ptr<PrefillTransfer>(new Prefill(add({}, std::move(on_released))));
  }
  Result<std::unique_ptr<DecodeTransfer>> decode(const TransferParams&,
                                                 const std::vector<uint32_t>&, Duration,
                                                 Callback on_change,
                                                 Callback on_released) override {
    if (!refuse_with.ok()) return refuse_with;
    return std::unique_ptr<DecodeTransfer>(
        new Decode(add(std::move(on_change), std::move(on_released))));
  }

 private:
  std::shared_ptr<Handoff> add(Callback on_change, Callback on_released) {
    handoffs_.push_back(std::make_shared<Handoff>());
    handoffs_.back()->on_change = std::move(on_change);
    handoffs_.back()->on_released = std::move(on_released);
    return handoffs_.back();
  }

  class Prefill final : public PrefillTransfer {
   public:
    explicit Prefill(std::shared_ptr<Handoff> handoff) : handoff_(std::move(handoff)) {}
    void begin(std::span<const uint32_t> blocks, uint32_t cached_tokens) override {
      EXPECT_FALSE(handoff_->begun) << "begun twice";
      handoff_->begun = true;
      handoff_->cached = cached_tokens;
      handoff_->blocks.assign(blocks.begin(), blocks.end());
    }
    void layer_ready(uint32_t layer, uint32_t tokens) override {
      EXPECT_TRUE(handoff_->begun && !handoff_->finished && !handoff_->aborted);
      EXPECT_GE(tokens, handoff_->computed[layer]);
      handoff_->computed[layer] = tokens;
    }
    void finish() override {
      EXPECT_TRUE(handoff_->begun && !handoff_->finished && !handoff_->aborted);
      handoff_->finished = true;
    }
    void abort(const std::string& why) override {
      handoff_->aborted = true;
      handoff_->why = why;
    }
    HandoffReport report() const override { return {}; }

   private:
    const std::shared_ptr<Handoff> handoff_;
  };

  class Decode final : public DecodeTransfer {
   public:
    explicit Decode(std::shared_ptr<Handoff> handoff) : handoff_(std::move(handoff)) {}
    Poll poll() const override { return handoff_->poll; }
    void accept(std::span<const uint32_t> blocks) override {
      EXPECT_EQ(handoff_->poll.state, State::kOffered);
      handoff_->poll.state = State::kLoading;
      handoff_->blocks.assign(blocks.begin(), blocks.end());
    }
    void refuse(const std::string& why) override {
      EXPECT_EQ(handoff_->poll.state, State::kOffered);
      handoff_->refused = true;
      handoff_->why = why;
    }
    void done() override {
      EXPECT_EQ(handoff_->poll.state, State::kLoaded);
      handoff_->done = true;
    }
    void abort(const std::string& why) override {
      handoff_->aborted = true;
      handoff_->why = why;
    }
    HandoffReport report() const override { return {}; }

   private:
    const std::shared_ptr<Handoff> handoff_;
  };

  std::vector<std::shared_ptr<Handoff>> handoffs_;
};

struct HarnessSetup {
  uint32_t block_tokens = 8;
  uint32_t kv_blocks = 64;
  EngineConfig engine{.prefill_tokens = 32, .max_batch = 8, .max_queue = 64};
};

class Harness {
 public:
  explicit Harness(HarnessSetup setup = {})
      : model(Llama::create(tiny_model_source(), 1).value()),
        cache(KvCache::create(model->config(), setup.block_tokens, setup.kv_blocks, 3).value()),
        core(std::make_unique<EngineCore>(
            *model, *cache, setup.engine, &transfers,
            EngineCore::Hooks{[this](uint64_t id) { core->transfer_changed(id); },
                              [this](uint64_t id) { core->transfer_released(id); }},
            metrics)) {}

  std::shared_ptr<Told> add(std::vector<uint32_t> prompt, uint32_t max_tokens,
                            std::optional<TransferRole> role = {}, bool with_peer = true) {
    GenerationRequest request;
    request.name = "test-" + std::to_string(next_id);
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.ignore_eos = true;
    request.deadline = deadline;
    if (role) {
      request.transfer = TransferParams{.handoff = {HandoffId::random(), 1}, .role = *role};
      if (with_peer) request.transfer->peer = {{"127.0.0.1", 1}};
    }
    auto told = std::make_shared<Told>();
    core->add(next_id++, std::move(request), std::make_unique<KeepingSink>(told), clock);
    return told;
  }
  // Until there is nothing to compute; bounded, so that a standstill fails instead of hanging.
  void run(int most = 10'000) {
    while (core->step(clock)) ASSERT_GT(most--, 0) << "does not come to an end";
  }
  bool idle() const {
    return cache->free_blocks() == cache->blocks() && core->waiting() == 0 &&
           core->running() == 0 && core->releasing() == 0;
  }

  Metrics metrics;
  std::unique_ptr<Llama> model;
  std::unique_ptr<KvCache> cache;
  ScriptedTransfers transfers;
  TimePoint clock = now();
  TimePoint deadline = TimePoint::max();
  uint64_t next_id = 1;
  std::unique_ptr<EngineCore> core;
};

inline std::vector<uint32_t> prompt_of(uint32_t tokens, uint32_t seed) {
  std::vector<uint32_t> prompt(tokens);
  for (uint32_t i = 0; i < tokens; ++i) prompt[i] = (i * 31 + seed * 17 + i * i * 7) % 256;
  return prompt;
}

// What an engine with all the room in the world, computing the prompt at once, gives.
inline std::vector<uint32_t> tokens_alone(const std::vector<uint32_t>& prompt,
                                          uint32_t max_tokens) {
  Harness alone({.engine = {.prefill_tokens = 4096}});
  const auto told = alone.add(prompt, max_tokens);
  alone.run();
  EXPECT_TRUE(told->end && told->end->status.ok());
  return told->tokens;
}

}  // namespace baton::reference
