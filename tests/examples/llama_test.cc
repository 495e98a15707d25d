// The forward pass: the same bits however the work is cut, and right ones.
#include "examples/reference_engine/llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

namespace baton::reference {
namespace {

// Paged KV memory that starts as NaN: reading what nobody wrote shows in the logits.
class Kv {
 public:
  Kv(const LlamaConfig& config, uint32_t block_tokens, uint32_t blocks)
      : data_(config.layers,
              std::vector<float>(size_t{blocks} * block_tokens * 2 * config.kv_width(),
                                 std::numeric_limits<float>::quiet_NaN())) {
    for (auto& layer : data_) bases_.push_back(reinterpret_cast<std::byte*>(layer.data()));
    view_ = KvView::packed(config, bases_, block_tokens, blocks);
    free_.resize(blocks);
    std::iota(free_.begin(), free_.end(), 0u);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(blocks));
  }
  const KvView& view() const { return view_; }
  std::vector<uint32_t> take(size_t tokens) {
    const size_t count = (tokens + view_.block_tokens - 1) / view_.block_tokens;
    EXPECT_LE(count, free_.size());
    std::vector<uint32_t> taken(free_.end() - count, free_.end());
    free_.resize(free_.size() - count);
    return taken;
  }
  // K or V of all positions of a layer, gathered through the block table.
  std::vector<float> gather(uint32_t layer, std::span<const uint32_t> blocks, uint32_t tokens) {
    std::vector<float> out;
    for (uint32_t p = 0; p < tokens; ++p) {
      for (uint32_t plane = 0; plane < 2; ++plane) {
        const auto* from = reinterpret_cast<const float*>(
            bases_[layer] + blocks[p / view_.block_tokens] * view_.block_stride +
            plane * view_.plane_stride + p % view_.block_tokens * view_.token_stride);
        out.insert(out.end(), from, from + view_.token_stride / sizeof(float));
      }
    }
    return out;
  }

 private:
  std::vector<std::vector<float>> data_;
  std::vector<std::byte*> bases_;
  KvView view_;
  std::vector<uint32_t> free_;
};

std::unique_ptr<Llama> make(const std::string& spec, uint32_t threads = 1, Isa isa = best_isa()) {
  auto source = ModelSource::parse("random:" + spec);
  EXPECT_TRUE(source.ok()) << source.status().to_string();
  auto llama = Llama::create(*source, threads, isa);
  EXPECT_TRUE(llama.ok()) << llama.status().to_string();
  return std::move(llama).value();
}

std::vector<uint32_t> prompt(size_t size, uint32_t seed, uint32_t vocab = 260) {
  std::mt19937 random(seed);
  std::vector<uint32_t> tokens(size);
  for (auto& token : tokens) token = random() % vocab;
  return tokens;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Outcome {
  std::vector<float> logits;           // of the last token
  std::vector<std::vector<float>> kv;  // by layer
  bool operator==(const Outcome& other) const {
    return same_bits(logits, other.logits) &&
           std::equal(kv.begin(), kv.end(), other.kv.begin(), other.kv.end(), same_bits);
  }
};

// Prefills `tokens` in chunks of `cut` tokens each.
Outcome run_alone(Llama& llama, std::span<const uint32_t> tokens, size_t cut,
                  uint32_t block_tokens) {
  Kv kv(llama.config(), block_tokens, 600 / block_tokens + 2);
  const auto blocks = kv.take(tokens.size());
  Outcome outcome;
  for (size_t at = 0; at < tokens.size(); at += cut) {
    const size_t size = std::min(cut, tokens.size() - at);
    const SequenceChunk chunk{tokens.subspan(at, size), static_cast<uint32_t>(at), blocks,
                              at + size == tokens.size()};
    llama.forward({&chunk, 1}, kv.view(), nullptr, &outcome.logits);
  }
  for (uint32_t layer = 0; layer < llama.config().layers; ++layer) {
    outcome.kv.push_back(kv.gather(layer, blocks, tokens.size()));
  }
  return outcome;
}

constexpr const char* kOdd = "layers=2,heads=6,kv_heads=2,head_dim=24,hidden=72,ffn=100,vocab=301";

class EveryIsa : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, EveryIsa, testing::ValuesIn(available_isas()),
                         [](const auto& info) { return isa_name(info.param); });

TEST_P(EveryIsa, CutsBlockSizesAndThreadsDoNotChangeABit) {
  auto one = make(kOdd, 1, GetParam());
  auto three = make(kOdd, 3, GetParam());
  const auto tokens = prompt(300, 1);
  const Outcome whole = run_alone(*one, tokens, 300, 16);
  ASSERT_EQ(whole.logits.size(), 301u);
  for (const float logit : whole.logits) ASSERT_TRUE(std::isfinite(logit));
  for (const size_t cut : {1, 7, 64, 65, 256}) {
    EXPECT_EQ(run_alone(*one, tokens, cut, 16), whole) << "cut " << cut;
  }
  for (const uint32_t block : {1, 5, 16, 32, 128}) {
    EXPECT_EQ(run_alone(*three, tokens, 100, block), whole) << "block " << block;
  }
}

TEST_P(EveryIsa, CompanyInTheBatchDoesNotChangeABit) {
  auto llama = make(kOdd, 2, GetParam());
  constexpr size_t kSequences = 9;
  std::vector<std::vector<uint32_t>> tokens;
  std::vector<Outcome> alone;
  for (size_t i = 0; i < kSequences; ++i) {
    tokens.push_back(prompt(1 + i * 17, i));
    alone.push_back(run_alone(*llama, tokens[i], 1000, 16));
  }
  // All at once, in random pieces, some of two pieces of one sequence in the same step.
  std::mt19937 random(7);
  Kv kv(llama->config(), 32, 64);
  std::vector<std::vector<uint32_t>> blocks;
  for (const auto& t : tokens) blocks.push_back(kv.take(t.size()));
  std::vector<size_t> at(kSequences, 0);
  std::vector<std::vector<float>> logits(kSequences);
  while (at != std::vector<size_t>{1, 18, 35, 52, 69, 86, 103, 120, 137}) {
    std::vector<SequenceChunk> chunks;
    std::vector<size_t> wanting;
    for (size_t i = 0; i < 2 * kSequences; ++i) {
      const size_t s = random() % kSequences;
      const size_t size = std::min<size_t>(random() % 40, tokens[s].size() - at[s]);
      if (size == 0) continue;
      const bool last = at[s] + size == tokens[s].size();
      chunks.push_back({std::span(tokens[s]).subspan(at[s], size), static_cast<uint32_t>(at[s]),
                        blocks[s], last});
      at[s] += size;
      if (last) wanting.push_back(s);
    }
    std::vector<float> step_logits;
    llama->forward(chunks, kv.view(), nullptr, &step_logits);
    const size_t vocab = llama->config().vocab;
    ASSERT_EQ(step_logits.size(), wanting.size() * vocab);
    for (size_t i = 0; i < wanting.size(); ++i) {
      logits[wanting[i]].assign(step_logits.begin() + i * vocab,
                                step_logits.begin() + (i + 1) * vocab);
    }
  }
  for (size_t i = 0; i < kSequences; ++i) {
    EXPECT_TRUE(same_bits(logits[i], alone[i].logits)) << i;
    for (uint32_t layer = 0; layer < llama->config().layers; ++layer) {
      EXPECT_TRUE(same_bits(kv.gather(layer, blocks[i], tokens[i].size()), alone[i].kv[layer]));
    }
  }
}

TEST(LlamaTest, OtherLayoutsOfTheKvMemoryGiveTheSameBits) {
  auto llama = make("layers=2");
  const LlamaConfig& c = llama->config();
  const auto tokens = prompt(50, 3);
  const Outcome expected = run_alone(*llama, tokens, 50, 16);
  // [plane][kv head][block][token][dim], one region for all layers.
  constexpr uint32_t kBlocks = 4, kBlockTokens = 16;
  const size_t layer_floats = size_t{2} * c.kv_heads * kBlocks * kBlockTokens * c.head_dim;
  std::vector<float> memory(layer_floats * c.layers, std::numeric_limits<float>::quiet_NaN());
  std::vector<std::byte*> bases;
  for (uint32_t i = 0; i < c.layers; ++i) {
    bases.push_back(reinterpret_cast<std::byte*>(memory.data() + i * layer_floats));
  }
  KvView view{.layers = bases, .block_tokens = kBlockTokens, .blocks = kBlocks};
  view.token_stride = c.head_dim * sizeof(float);
  view.block_stride = kBlockTokens * view.token_stride;
  view.head_stride = kBlocks * view.block_stride;
  view.plane_stride = c.kv_heads * view.head_stride;
  const std::vector<uint32_t> blocks{2, 0, 3, 1};
  const SequenceChunk chunk{tokens, 0, blocks, true};
  std::vector<float> logits;
  llama->forward({&chunk, 1}, view, nullptr, &logits);
  EXPECT_TRUE(same_bits(logits, expected.logits));
}

TEST(LlamaTest, OnLayerComesWhenTheKvOfThatLayerIsWrittenAndBeforeTheNext) {
  auto llama = make("layers=3", 2);
  const auto tokens = prompt(40, 5);
  const Outcome expected = run_alone(*llama, tokens, 40, 16);
  Kv kv(llama->config(), 16, 8);
  const auto blocks = kv.take(40);
  const SequenceChunk chunk{tokens, 0, blocks, false};
  std::vector<uint32_t> seen;
  llama->forward(
      {&chunk, 1}, kv.view(),
      [&](uint32_t layer) {
        seen.push_back(layer);
        EXPECT_TRUE(same_bits(kv.gather(layer, blocks, 40), expected.kv[layer]));
        for (uint32_t later = layer + 1; later < 3; ++later) {
          EXPECT_TRUE(std::isnan(kv.gather(later, blocks, 1)[0]));
        }
      },
      nullptr);
  EXPECT_THAT(seen, testing::ElementsAre(0, 1, 2));
}

uint32_t argmax(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

std::vector<uint32_t> generate(Llama& llama, std::vector<uint32_t> tokens, size_t count) {
  Kv kv(llama.config(), 16, 40);
  const auto blocks = kv.take(tokens.size() + count);
  std::vector<uint32_t> out;
  std::vector<float> logits;
  uint32_t at = 0;
  while (out.size() < count) {
    const SequenceChunk chunk{std::span(tokens).subspan(at), at, blocks, true};
    llama.forward({&chunk, 1}, kv.view(), nullptr, &logits);
    at = tokens.size();
    out.push_back(argmax(logits));
    tokens.push_back(out.back());
  }
  return out;
}

TEST(LlamaTest, ARandomModelsAnswersVaryAndDependOnEveryPartOfThePrompt) {
  auto llama = make("layers=2");
  auto tokens = prompt(200, 11);
  const auto answer = generate(*llama, tokens, 24);
  auto sorted = answer;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_GE(std::unique(sorted.begin(), sorted.end()) - sorted.begin(), 8);
  EXPECT_EQ(generate(*llama, tokens, 24), answer);
  for (const size_t place : {0, 50, 150, 199}) {
    auto changed = tokens;
    changed[place] ^= 1;
    EXPECT_NE(generate(*llama, changed, 24), answer) << "token " << place;
  }
  EXPECT_NE(generate(*make("layers=2,seed=2"), tokens, 24), answer);
}

TEST(LlamaTest, IsasAgreeUpToRounding) {
  const auto tokens = prompt(100, 4);
  const Outcome reference = run_alone(*make(kOdd, 1, Isa::kPortable), tokens, 100, 16);
  for (const Isa isa : available_isas()) {
    const Outcome outcome = run_alone(*make(kOdd, 1, isa), tokens, 100, 16);
    for (size_t i = 0; i < outcome.logits.size(); ++i) {
      EXPECT_NEAR(outcome.logits[i], reference.logits[i], 2e-3) << isa_name(isa);
    }
  }
}

TEST(LlamaTest, RefusesWhatItCannotRun) {
  const auto status = [](const char* text) {
    const auto source = ModelSource::parse(text);
    return source.ok() ? Llama::create(*source, 1).status() : source.status();
  };
  EXPECT_THAT(status("random:kv_head=2").message(), testing::HasSubstr("\"kv_heads\""));
  EXPECT_THAT(status("random:layers=0").message(), testing::HasSubstr("layers: expected 1 to"));
  EXPECT_THAT(status("random:heads=5,kv_heads=2").message(), testing::HasSubstr("multiple"));
  EXPECT_THAT(status("random:layers=2x").message(), testing::HasSubstr("\"2x\""));
  EXPECT_THAT(status("random:layers").message(), testing::HasSubstr("key=value"));
  EXPECT_THAT(status("random:hidden=60000,layers=1000").message(),
              testing::HasSubstr("model size"));
  EXPECT_EQ(status("/nowhere/model.gguf").code(), Code::kNotFound);
  EXPECT_EQ(Llama::create(ModelSource{}, 0).status().code(), Code::kInvalidArgument);
}

TEST(LlamaTest, SpecTextReadsBackAsItself) {
  const auto spec = RandomModelSpec::parse("layers=3,rope_base=500000,seed=18446744073709551615");
  ASSERT_TRUE(spec.ok());
  const auto again = RandomModelSpec::parse(spec->to_string());
  ASSERT_TRUE(again.ok()) << spec->to_string();
  EXPECT_EQ(again->config, spec->config);
  EXPECT_EQ(again->seed, spec->seed);
}

}  // namespace
}  // namespace baton::reference
