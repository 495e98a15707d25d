// Two nodes in one process with an engine's memory each, and what a test does with them.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "connectors/decode_session.h"
#include "connectors/prefill_session.h"
#include "tests/fakes/kv_engine.h"
#include "transfer/base/mutex.h"
#include "transfer/ucx/ucx_endpoint.h"

namespace baton::fakes {

inline HandoffAttempt handoff() { return {HandoffId::random(), 1}; }

// The channels that there are.
inline std::vector<ChannelChoice> kinds() {
  std::vector<ChannelChoice> all = {ChannelChoice::kLocal, ChannelChoice::kTcp};
  if (ucx::available()) all.push_back(ChannelChoice::kUcx);
  return all;
}

// Counts callbacks and lets the test's thread wait for them. A callback may come after this is
// gone.
class Events {
 public:
  std::function<void()> count() {
    return [state = state_] {
      MutexLock lock(state->mutex);
      ++state->seen;
      state->changed.notify_all();
    };
  }
  int seen() const {
    MutexLock lock(state_->mutex);
    return state_->seen;
  }
  // Waits until `condition` holds, looking again after each callback (and now and then).
  template <typename Condition>
  [[nodiscard]] bool until(Condition&& condition, Duration deadline = std::chrono::seconds(20)) {
    const TimePoint end = now() + deadline;
    while (!condition()) {
      if (now() > end) return false;
      MutexLock lock(state_->mutex);
      state_->changed.wait_until(state_->mutex, now() + std::chrono::milliseconds(5));
    }
    return true;
  }

 private:
  struct State {
    mutable Mutex mutex;
    CondVar changed;
    int seen = 0;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

inline NodeConfig small_node(KvEngine& engine, ChannelChoice channel) {
  NodeConfig config;
  config.channel = channel;
  config.kv = engine.kv();
  config.fingerprint = {.model = "test",
                        .dtype = "bytes",
                        .layers = 3,
                        .planes = 2,
                        .kv_heads = 2,
                        .head_dim = 24,
                        .rope = "none"};
  config.chunk_tokens = 64;
  config.retained_bytes = 4u << 20;
  config.transit_bytes = 256u << 10;
  return config;
}

inline std::vector<uint32_t> prompt_tokens(uint32_t tokens, uint32_t prompt) {
  std::vector<uint32_t> out(tokens);
  for (uint32_t i = 0; i < tokens; ++i) out[i] = i * 2654435761u ^ prompt * 40503u;
  return out;
}

// A prefilling engine at work on one prompt.
struct Prefiller {
  Prefiller(Node& node, KvEngine& kv, uint32_t layers) : node(node), kv(kv), layers(layers) {}

  Status create(const HandoffAttempt& handoff, std::vector<HostPort> peer, uint32_t prompt_length,
                uint32_t prompt_seed, Duration budget = std::chrono::seconds(30),
                std::optional<Duration> lease = {}) {
    tokens = prompt_length;
    prompt = prompt_seed;
    auto made = PrefillSession::create(node,
                                       {.handoff = handoff,
                                        .peer = std::move(peer),
                                        .budget = budget,
                                        .lease = lease,
                                        .tokens = prompt_tokens(tokens, prompt),
                                        .salt = salt},
                                       released.count());
    if (!made.ok()) return made.status();
    session = std::move(made).value();
    return ok_status();
  }
  void begin() {
    blocks = kv.allocate(tokens);
    session->begin(blocks, 0);
  }
  void layer(uint32_t l, uint32_t first, uint32_t last) {
    kv.fill(l, blocks, first, last, prompt);
    session->layer_ready(l, last);
  }
  // All of it, in steps of `step` tokens.
  void compute(uint32_t step = 100'000) {
    begin();
    for (uint32_t t = 0; t < tokens; t += step)
      for (uint32_t l = 0; l < layers; ++l) layer(l, t, std::min(tokens, t + step));
    session->finish();
  }
  bool wait_released() {
    return released.until([&] { return released.seen() == 1; });
  }

  Node& node;
  KvEngine& kv;
  const uint32_t layers;
  Events released;
  std::unique_ptr<PrefillSession> session;
  std::vector<uint32_t> blocks;
  uint32_t tokens = 0;
  uint32_t prompt = 0;
  std::string salt;  // set before create()
};

struct Decoder {
  Decoder(Node& node, KvEngine& kv) : node(node), kv(kv) {}

  Status create(const HandoffAttempt& handoff, protocol::Flow flow, std::vector<HostPort> peer,
                uint32_t prompt_length, uint32_t prompt_seed,
                Duration budget = std::chrono::seconds(30)) {
    tokens = prompt_length;
    prompt = prompt_seed;
    auto made = DecodeSession::create(node,
                                      {.handoff = handoff,
                                       .flow = flow,
                                       .peer = std::move(peer),
                                       .budget = budget,
                                       .tokens = prompt_tokens(tokens, prompt)},
                                      changed.count(), released.count());
    if (!made.ok()) return made.status();
    session = std::move(made).value();
    return ok_status();
  }
  bool wait(DecodeSession::State state) {
    return changed.until([&] { return session->poll().state == state; });
  }
  // Neither waiting, offered nor loading.
  bool wait_over() {
    return changed.until([&] {
      const auto s = session->poll().state;
      return s == DecodeSession::State::kLoaded || s == DecodeSession::State::kFailed;
    });
  }
  void accept(uint32_t held_tokens = 0) {
    if (blocks.empty()) blocks = kv.allocate(tokens);
    session->accept(blocks, held_tokens);
  }
  // Waits for the offer, accepts, waits for the bytes.
  bool load() {
    if (!wait(DecodeSession::State::kOffered)) return false;
    accept();
    return wait(DecodeSession::State::kLoaded);
  }
  size_t wrong(uint32_t n) { return kv.wrong(blocks, 0, n, prompt); }
  bool finish() {
    session->done();
    return released.until([&] { return released.seen() == 1; });
  }

  Node& node;
  KvEngine& kv;
  Events changed;
  Events released;
  std::unique_ptr<DecodeSession> session;
  std::vector<uint32_t> blocks;
  uint32_t tokens = 0;
  uint32_t prompt = 0;
};

// A metric's value by its line's beginning, e.g. `baton_copied_bytes_total{why="gather"}`.
inline double metric(Node& node, const std::string& name) {
  const std::string text = node.metrics().text();
  const size_t at = text.find("\n" + name + " ");
  return at == std::string::npos ? 0 : std::stod(text.substr(at + name.size() + 2));
}

// Bytes that a node copied for that reason.
inline double copied(Node& node, const std::string& why) {
  return metric(node, "baton_copied_bytes_total{why=\"" + why + "\"}");
}

class TwoNodes : public ::testing::Test {
 protected:
  // Defaults may be changed before.
  void start() {
    a_kv = std::make_unique<KvEngine>(a_shape, 1);
    b_kv = std::make_unique<KvEngine>(b_shape, 2);
    NodeConfig a = small_node(*a_kv, channel);
    NodeConfig b = small_node(*b_kv, channel);
    if (tune_a) tune_a(a);
    if (tune_b) tune_b(b);
    auto made_a = Node::create(std::move(a));
    ASSERT_TRUE(made_a.ok()) << made_a.status().to_string();
    auto made_b = Node::create(std::move(b));
    ASSERT_TRUE(made_b.ok()) << made_b.status().to_string();
    a_node = std::move(made_a).value();
    b_node = std::move(made_b).value();
  }
  std::vector<HostPort> a_address() const { return {a_node->address()}; }
  std::vector<HostPort> b_address() const { return {b_node->address()}; }
  Prefiller prefiller() { return {*a_node, *a_kv, a_shape.layers}; }
  Decoder decoder() { return {*b_node, *b_kv}; }

  ChannelChoice channel = ChannelChoice::kLocal;
  KvShape a_shape, b_shape;
  std::function<void(NodeConfig&)> tune_a, tune_b;
  std::unique_ptr<KvEngine> a_kv, b_kv;
  std::unique_ptr<Node> a_node, b_node;
};

}  // namespace baton::fakes
