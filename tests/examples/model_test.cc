// A whole model file: loaded as written, close to the definition, and, where there is one, the
// real model's first word.
#include "examples/reference_engine/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "examples/reference_engine/sampler.h"
#include "tests/examples/gguf_writer.h"
#include "transfer/base/env.h"

namespace baton::reference {
namespace {

using testing::HasSubstr;
using Matrix = std::vector<std::vector<float>>;  // row by row, as in the file

constexpr uint32_t kLayers = 2, kHeads = 4, kKvHeads = 2, kHeadDim = 6, kHidden = 20, kFfn = 30,
                   kVocab = 257;

Matrix random_matrix(std::mt19937& random, size_t rows, size_t columns, float scale) {
  std::uniform_real_distribution<float> uniform(-scale, scale);
  Matrix m(rows, std::vector<float>(columns));
  for (auto& row : m) {
    for (float& value : row) value = uniform(random);
  }
  return m;
}

// A tiny Llama with its weights kept in the clear.
struct TinyModel {
  std::map<std::string, Matrix> tensors;

  TinyModel() {
    std::mt19937 random(1);
    const auto add = [&](const std::string& name, size_t rows, size_t columns) {
      tensors[name] = random_matrix(random, rows, columns, rows == 1 ? 1.0f : 0.4f);
    };
    add("token_embd.weight", kVocab, kHidden);
    add("output_norm.weight", 1, kHidden);
    for (uint32_t i = 0; i < kLayers; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      add(p + "attn_norm.weight", 1, kHidden);
      add(p + "attn_q.weight", kHeads * kHeadDim, kHidden);
      add(p + "attn_k.weight", kKvHeads * kHeadDim, kHidden);
      add(p + "attn_v.weight", kKvHeads * kHeadDim, kHidden);
      add(p + "attn_output.weight", kHidden, kHeads * kHeadDim);
      add(p + "ffn_norm.weight", 1, kHidden);
      add(p + "ffn_gate.weight", kFfn, kHidden);
      add(p + "ffn_up.weight", kFfn, kHidden);
      add(p + "ffn_down.weight", kHidden, kFfn);
    }
  }

  GgufWriter writer() const {
    GgufWriter w;
    w.add_string("general.architecture", "llama");
    w.add_u32("llama.block_count", kLayers);
    w.add_u32("llama.attention.head_count", kHeads);
    w.add_u32("llama.attention.head_count_kv", kKvHeads);
    w.add_u32("llama.attention.key_length", kHeadDim);
    w.add_u32("llama.embedding_length", kHidden);
    w.add_u32("llama.feed_forward_length", kFfn);
    w.add_u32("llama.context_length", 128);
    w.add_float("llama.rope.freq_base", 1000.0f);
    w.add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    add_tokenizer(w);
    for (const auto& [name, matrix] : tensors) {
      std::vector<float> flat;
      for (const auto& row : matrix) flat.insert(flat.end(), row.begin(), row.end());
      w.add_f32(name, {matrix[0].size(), matrix.size()}, flat);
    }
    return w;
  }

  static void add_tokenizer(GgufWriter& w) {
    std::vector<std::string> tokens;
    for (int i = 0, next = 0x100; i < 256; ++i) {
      const bool printable = (i > 0x20 && i < 0x7f) || (i > 0xa0 && i != 0xad);
      const int c = printable ? i : next++;
      tokens.push_back(c < 0x80 ? std::string(1, static_cast<char>(c))
                                : std::string{static_cast<char>(0xc0 | c >> 6),
                                              static_cast<char>(0x80 | (c & 0x3f))});
    }
    tokens.push_back("<end>");
    std::vector<int32_t> types(256, 1);
    types.push_back(3);
    w.add_string("tokenizer.ggml.model", "gpt2");
    w.add_string("tokenizer.ggml.pre", "smollm");
    w.add_strings("tokenizer.ggml.tokens", tokens);
    w.add_numbers<int32_t>("tokenizer.ggml.token_type", GgufType::kInt32, types);
    w.add_strings("tokenizer.ggml.merges", {});
    w.add_u32("tokenizer.ggml.bos_token_id", 256);
    w.add_u32("tokenizer.ggml.eos_token_id", 256);
    w.add_string("tokenizer.chat_template", "{{ messages[0].content }}<end>");
  }

  using Vector = std::vector<double>;
  Vector multiply(const std::string& name, const Vector& x) const {
    Vector y;
    for (const auto& row : tensors.at(name)) {
      double sum = 0;
      for (size_t i = 0; i < x.size(); ++i) sum += row[i] * x[i];
      y.push_back(sum);
    }
    return y;
  }
  Vector normed(const std::string& name, const Vector& x) const {
    double squares = 0;
    for (const double v : x) squares += v * v;
    Vector y = x;
    const auto& weight = tensors.at(name)[0];
    for (size_t i = 0; i < x.size(); ++i) {
      y[i] *= weight[i] / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
    }
    return y;
  }
  static void rotate(Vector& heads, size_t position) {
    for (size_t i = 0; i < heads.size(); i += 2) {
      const double exponent = static_cast<double>(i % kHeadDim) / kHeadDim;
      const double angle = static_cast<double>(position) * std::pow(1000.0, -exponent);
      const double a = heads[i], b = heads[i + 1];
      heads[i] = a * std::cos(angle) - b * std::sin(angle);
      heads[i + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
  Vector attend(const Vector& q, const std::vector<Vector>& keys,
                const std::vector<Vector>& values) const {
    Vector out(q.size(), 0.0);
    for (size_t h = 0; h < kHeads; ++h) {
      const size_t from = h / (kHeads / kKvHeads) * kHeadDim;
      Vector weights;
      double total = 0;
      for (const auto& key : keys) {
        double dot = 0;
        for (size_t d = 0; d < kHeadDim; ++d) dot += q[h * kHeadDim + d] * key[from + d];
        weights.push_back(std::exp(dot / std::sqrt(double{kHeadDim})));
        total += weights.back();
      }
      for (size_t p = 0; p < values.size(); ++p) {
        for (size_t d = 0; d < kHeadDim; ++d) {
          out[h * kHeadDim + d] += weights[p] / total * values[p][from + d];
        }
      }
    }
    return out;
  }

  // The definition, in double precision: no blocks, no tiles, no vectors.
  Vector logits(std::span<const uint32_t> tokens) const {
    std::vector<std::vector<Vector>> keys(kLayers), values(kLayers);
    Vector x;
    for (size_t position = 0; position < tokens.size(); ++position) {
      const auto& embedding = tensors.at("token_embd.weight")[tokens[position]];
      x.assign(embedding.begin(), embedding.end());
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        const std::string p = "blk." + std::to_string(layer) + ".";
        Vector h = normed(p + "attn_norm.weight", x);
        Vector q = multiply(p + "attn_q.weight", h), k = multiply(p + "attn_k.weight", h);
        rotate(q, position);
        rotate(k, position);
        keys[layer].push_back(k);
        values[layer].push_back(multiply(p + "attn_v.weight", h));
        add(x, multiply(p + "attn_output.weight", attend(q, keys[layer], values[layer])));
        h = normed(p + "ffn_norm.weight", x);
        Vector gate = multiply(p + "ffn_gate.weight", h);
        const Vector up = multiply(p + "ffn_up.weight", h);
        for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1.0 + std::exp(-gate[i]));
        add(x, multiply(p + "ffn_down.weight", gate));
      }
    }
    const bool tied = !tensors.contains("output.weight");
    return multiply(tied ? "token_embd.weight" : "output.weight", normed("output_norm.weight", x));
  }
  static void add(Vector& x, const Vector& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
};

class TempFile {
 public:
  explicit TempFile(const std::string& bytes)
      : path_(std::filesystem::path(testing::TempDir()) / "baton_model_test.gguf") {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~TempFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Generates greedily in pages of 16 tokens; the logits of the last prompt token in `first`.
std::vector<uint32_t> generate(Llama& llama, std::vector<uint32_t> tokens, size_t count,
                               std::vector<float>* first) {
  const LlamaConfig& c = llama.config();
  const uint32_t blocks = (tokens.size() + count) / 16 + 1;
  std::vector<std::vector<float>> memory(c.layers,
                                         std::vector<float>(size_t{blocks} * 32 * c.kv_width()));
  std::vector<std::byte*> bases;
  for (auto& layer : memory) bases.push_back(reinterpret_cast<std::byte*>(layer.data()));
  const KvView kv = KvView::packed(c, bases, 16, blocks);
  std::vector<uint32_t> table(blocks);
  for (uint32_t i = 0; i < blocks; ++i) table[i] = blocks - 1 - i;
  std::vector<uint32_t> answer;
  std::vector<float> logits;
  for (uint32_t at = 0; answer.size() < count;) {
    const SequenceChunk chunk{std::span(tokens).subspan(at), at, table, true};
    llama.forward({&chunk, 1}, kv, nullptr, &logits);
    if (at == 0 && first != nullptr) *first = logits;
    at = tokens.size();
    answer.push_back(sample_token(logits, {}, at));
    tokens.push_back(answer.back());
  }
  return answer;
}

TEST(ModelTest, LogitsAreTheDefinitionsForEveryIsa) {
  for (const bool tied : {true, false}) {
    TinyModel tiny;
    if (!tied) {
      std::mt19937 random(2);
      tiny.tensors["output.weight"] = random_matrix(random, kVocab, kHidden, 0.4f);
    }
    const std::string bytes = tiny.writer().finish();
    const auto file = parse_gguf(bytes);
    ASSERT_TRUE(file.ok()) << file.status().to_string();
    std::vector<uint32_t> tokens(100);
    for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i * 37 % kVocab;
    const auto expected = tiny.logits(tokens);
    for (const Isa isa : available_isas()) {
      const auto llama = Llama::create(*file, 2, isa);
      ASSERT_TRUE(llama.ok()) << llama.status().to_string();
      std::vector<float> logits;
      generate(**llama, tokens, 1, &logits);
      ASSERT_EQ(logits.size(), expected.size());
      for (size_t i = 0; i < logits.size(); ++i) {
        ASSERT_NEAR(logits[i], expected[i], 2e-5) << isa_name(isa) << " token " << i;
      }
    }
  }
}

TEST(ModelTest, LoadsAllPartsFromOneFile) {
  const TempFile file(TinyModel().writer().finish());
  const auto model = load_model(file.path(), 1);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_EQ(model->name, "baton_model_test");
  EXPECT_EQ(model->revision.size(), 64u);
  EXPECT_EQ(model->llama->config().eos, 256u);
  EXPECT_EQ(model->llama->config().head_dim, kHeadDim);
  const std::vector<ChatMessage> chat{{"user", "a<end>"}};
  const auto prompt = model->chat_template.render(chat, {});
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(*model->tokenizer->encode(*prompt),
            (std::vector<uint32_t>{'a', '<', 'e', 'n', 'd', '>', 256}));
}

TEST(ModelTest, ARandomModelComesWithEverythingToo) {
  const auto model = load_model("random:layers=1,vocab=300,seed=9", 1);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_EQ(model->name, "random");
  EXPECT_THAT(model->revision, HasSubstr("seed=9"));
  EXPECT_EQ(model->tokenizer->vocab_size(), 300u);
  const auto other = load_model("random:layers=1,vocab=300,seed=10", 1);
  EXPECT_NE(other->revision, model->revision);
}

// Each case: what is done to a good file's parts, and what the refusal names.
TEST(ModelTest, RefusesFilesThatAreNoSuchModel) {
  const auto says = [](const std::function<void(TinyModel&)>& damage,
                       const std::function<void(GgufWriter&)>& extra = nullptr) {
    TinyModel tiny;
    damage(tiny);
    GgufWriter w = tiny.writer();
    if (extra) extra(w);
    const std::string bytes = w.finish();
    const auto file = parse_gguf(bytes);
    if (!file.ok()) return file.status().message();
    const auto llama = Llama::create(*file, 1);
    return llama.ok() ? std::string("accepted") : llama.status().message();
  };
  const auto nothing = [](TinyModel&) {};
  EXPECT_EQ(says(nothing), "accepted");
  EXPECT_THAT(says([](auto& m) { m.tensors.erase("blk.1.attn_k.weight"); }),
              HasSubstr("\"blk.1.attn_k.weight\": expected 12 rows of 20, found no such tensor"));
  EXPECT_THAT(says([](auto& m) { m.tensors["blk.0.ffn_up.weight"].pop_back(); }),
              HasSubstr("\"blk.0.ffn_up.weight\": expected 30 rows of 20, found 29 rows of 20"));
  EXPECT_THAT(says([](auto& m) {
                m.tensors["blk.0.attn_q.bias"] = Matrix(1, {1, 2});
              }),
              HasSubstr("\"blk.0.attn_q.bias\": expected the tensors of a plain Llama"));
  EXPECT_THAT(says([](auto& m) { m.tensors.erase("token_embd.weight"); }),
              HasSubstr("token_embd.weight"));
  EXPECT_THAT(says(nothing, [](auto& w) { w.add_string("llama.rope.scaling.type", "yarn"); }),
              HasSubstr("\"llama.rope.scaling.type\": expected \"none\", found \"yarn\""));
  EXPECT_THAT(says(nothing, [](auto& w) { w.add_u32("llama.rope.dimension_count", 4); }),
              HasSubstr("expected the head dimension, 6, found 4"));
}

TEST(ModelTest, HugeClaimsTakeNoMemory) {
  GgufWriter w;
  w.add_string("general.architecture", "llama");
  w.add_u32("llama.block_count", 1);
  w.add_u32("llama.attention.head_count", 512);
  w.add_u32("llama.embedding_length", 32768);
  w.add_u32("llama.feed_forward_length", 4096);
  w.add_u32("llama.context_length", 1 << 20);
  w.add_u32("tokenizer.ggml.bos_token_id", 0);
  w.add_u32("tokenizer.ggml.eos_token_id", 0);
  w.add_f32("token_embd.weight", {2, 2}, std::vector<float>(4));
  const std::string bytes = w.finish();
  const auto file = parse_gguf(bytes);
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_THAT(Llama::create(*file, 1).status().message(),
              HasSubstr("\"token_embd.weight\": expected 2 rows of 32768, found 2 rows of 2"));
}

TEST(ModelTest, TheRealModelKnowsTheCapitalOfFrance) {
  if (env::test_model().empty()) GTEST_SKIP() << "BATON_TEST_MODEL is not set";
  const auto model = load_model(env::test_model(), 2);
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const auto prompt = model->tokenizer->encode("The capital of France is");
  ASSERT_TRUE(prompt.ok());
  const auto answer = generate(*model->llama, *prompt, 4, nullptr);
  EXPECT_THAT(model->tokenizer->decode(answer), testing::StartsWith(" Paris."));
}

}  // namespace
}  // namespace baton::reference
