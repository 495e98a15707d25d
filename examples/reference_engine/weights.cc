#include "examples/reference_engine/weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <unordered_set>

#include "examples/reference_engine/gguf.h"
#include "transfer/base/check.h"

namespace baton::reference {

FloatBuffer::FloatBuffer(size_t size) : size_(size) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t bytes = size * sizeof(float);
  const std::align_val_t alignment{bytes >= kHugePage ? kHugePage : 64};
  auto* floats = static_cast<float*>(::operator new[](bytes, alignment));
  data_ = std::unique_ptr<float[], Free>(floats, Free{alignment});
  if (bytes >= kHugePage) ::madvise(floats, bytes, MADV_HUGEPAGE);  // advice: may be refused
  std::memset(floats, 0, bytes);
}

namespace {

// Where rows of weights come from; row n holds the weights of output n over all inputs.
class Source {
 public:
  virtual ~Source() = default;
  // That the tensor exists and has this shape; rows are read after that only.
  virtual Status open(const std::string& tensor, uint64_t row_elements, uint64_t rows) = 0;
  virtual void row(uint64_t row, float* out) = 0;
};

class GgufSource : public Source {
 public:
  explicit GgufSource(const GgufFile& file) : file_(file) {}

  Status open(const std::string& name, uint64_t row_elements, uint64_t rows) override {
    tensor_ = file_.find_tensor(name);
    const std::string what = "tensor \"" + name + "\": expected " + std::to_string(rows) +
                             " rows of " + std::to_string(row_elements) + ", found ";
    if (tensor_ == nullptr) return file_.error(what + "no such tensor");
    if (tensor_->row_elements() != row_elements || tensor_->rows() != rows) {
      return file_.error(what + std::to_string(tensor_->rows()) + " rows of " +
                         std::to_string(tensor_->row_elements()));
    }
    used_.insert(tensor_->name);
    return {};
  }
  void row(uint64_t row, float* out) override { tensor_->dequantize_row(row, out); }

  Status all_used() const {
    for (const auto& tensor : file_.tensors()) {
      if (!used_.contains(tensor.name)) {
        return file_.error("tensor \"" + std::string(tensor.name.substr(0, 100)) +
                           "\": expected the tensors of a plain Llama, found one more");
      }
    }
    return {};
  }

 private:
  const GgufFile& file_;
  const GgufTensor* tensor_ = nullptr;
  std::unordered_set<std::string_view> used_;
};

// Uniform numbers, a function of (seed, tensor, row) only.
class RandomSource : public Source {
 public:
  explicit RandomSource(uint64_t seed) : seed_(seed) {}

  Status open(const std::string& name, uint64_t row_elements, uint64_t) override {
    tensor_ = seed_;
    for (const char c : name) tensor_ = mix(tensor_ ^ static_cast<uint8_t>(c));
    elements_ = row_elements;
    const std::string kind = name.substr(name.rfind('.', name.size() - 8) + 1);
    norm_ = kind.find("norm") != std::string::npos;
    amplitude_ = static_cast<float>(gain(kind) * std::sqrt(3.0 / static_cast<double>(elements_)));
    return {};
  }

  void row(uint64_t row, float* out) override {
    uint64_t state = mix(tensor_ ^ mix(row + 1));
    for (uint64_t i = 0; i < elements_; ++i) {
      state += 0x9e3779b97f4a7c15u;
      const auto bits = static_cast<int32_t>(mix(state) >> 40);               // 24 bits
      const float uniform = static_cast<float>(bits - (1 << 23)) * 0x1p-23f;  // [-1, 1)
      out[i] = norm_ ? 1.0f + 0.25f * uniform : amplitude_ * uniform;
    }
  }

 private:
  static uint64_t mix(uint64_t z) {  // splitmix64
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }

  // Standard deviation of an output whose inputs have 1. Attention averages over many keys, so
  // what it adds is amplified; sharper scores let single tokens through.
  double gain(const std::string& kind) const {
    if (kind == "token_embd.weight") return std::sqrt(static_cast<double>(elements_));
    if (kind == "attn_q.weight" || kind == "attn_k.weight") return 1.5;
    if (kind == "attn_output.weight") return 2.0;
    if (kind == "output.weight") return 4.0;
    return 1.0;
  }

  uint64_t seed_;
  uint64_t tensor_ = 0;
  uint64_t elements_ = 0;
  float amplitude_ = 0;
  bool norm_ = false;
};

// Puts `rows` rows of a tensor into the columns of `matrix` from `first_column` (of a panel) on.
Status pack(Source& source, const std::string& tensor, uint64_t rows, size_t first_column,
            PackedMatrix& matrix) {
  BATON_RETURN_IF_ERROR(source.open(tensor, matrix.k, rows));
  std::vector<float> panel(kPanel * matrix.k);
  for (uint64_t row = 0; row < rows; row += kPanel) {
    const uint64_t lanes = std::min<uint64_t>(kPanel, rows - row);
    for (uint64_t lane = 0; lane < lanes; ++lane) {
      source.row(row + lane, panel.data() + lane * matrix.k);
    }
    float* out = matrix.values.data() + (first_column + row) * matrix.k;
    for (size_t k = 0; k < matrix.k; ++k, out += kPanel) {
      for (uint64_t lane = 0; lane < lanes; ++lane) out[lane] = panel[lane * matrix.k + k];
    }
  }
  return {};
}

Status read_norm(Source& source, const std::string& tensor, size_t size, FloatBuffer& norm) {
  BATON_RETURN_IF_ERROR(source.open(tensor, size, 1));
  norm = FloatBuffer(round_to_panel(size));
  source.row(0, norm.data());
  return {};
}

Status read_layer(Source& source, uint32_t index, const LlamaWeights& shape, LayerWeights& layer) {
  const LlamaConfig& c = shape.config;
  const std::string prefix = "blk." + std::to_string(index) + ".";
  BATON_RETURN_IF_ERROR(
      read_norm(source, prefix + "attn_norm.weight", c.hidden, layer.attention_norm));
  BATON_RETURN_IF_ERROR(read_norm(source, prefix + "ffn_norm.weight", c.hidden, layer.ffn_norm));

  layer.qkv = PackedMatrix(c.hidden, shape.v_offset() + c.kv_width());
  BATON_RETURN_IF_ERROR(pack(source, prefix + "attn_q.weight", c.q_width(), 0, layer.qkv));
  BATON_RETURN_IF_ERROR(
      pack(source, prefix + "attn_k.weight", c.kv_width(), shape.k_offset(), layer.qkv));
  BATON_RETURN_IF_ERROR(
      pack(source, prefix + "attn_v.weight", c.kv_width(), shape.v_offset(), layer.qkv));
  layer.attention_out = PackedMatrix(c.q_width(), c.hidden);
  BATON_RETURN_IF_ERROR(
      pack(source, prefix + "attn_output.weight", c.hidden, 0, layer.attention_out));

  layer.gate_up = PackedMatrix(c.hidden, shape.up_offset() + c.ffn);
  BATON_RETURN_IF_ERROR(pack(source, prefix + "ffn_gate.weight", c.ffn, 0, layer.gate_up));
  BATON_RETURN_IF_ERROR(
      pack(source, prefix + "ffn_up.weight", c.ffn, shape.up_offset(), layer.gate_up));
  layer.down = PackedMatrix(c.ffn, c.hidden);
  return pack(source, prefix + "ffn_down.weight", c.hidden, 0, layer.down);
}

// Asks for every tensor before memory is taken for any, so that it is not a file's claims that
// decide how much.
Status check_tensors(Source& source, bool tied, const LlamaConfig& c) {
  BATON_RETURN_IF_ERROR(source.open("token_embd.weight", c.hidden, c.vocab));
  BATON_RETURN_IF_ERROR(source.open("output_norm.weight", c.hidden, 1));
  if (!tied) BATON_RETURN_IF_ERROR(source.open("output.weight", c.hidden, c.vocab));
  const struct {
    const char* name;
    uint64_t row_elements, rows;
  } shapes[] = {{"attn_norm", c.hidden, 1},         {"ffn_norm", c.hidden, 1},
                {"attn_q", c.hidden, c.q_width()},  {"attn_k", c.hidden, c.kv_width()},
                {"attn_v", c.hidden, c.kv_width()}, {"attn_output", c.q_width(), c.hidden},
                {"ffn_gate", c.hidden, c.ffn},      {"ffn_up", c.hidden, c.ffn},
                {"ffn_down", c.ffn, c.hidden}};
  for (uint32_t layer = 0; layer < c.layers; ++layer) {
    for (const auto& shape : shapes) {
      BATON_RETURN_IF_ERROR(
          source.open("blk." + std::to_string(layer) + "." + shape.name + ".weight",
                      shape.row_elements, shape.rows));
    }
  }
  return {};
}

Status read_weights(Source& source, bool tied, LlamaWeights& weights) {
  const LlamaConfig& c = weights.config;
  weights.embedding = PackedMatrix(c.hidden, c.vocab);
  BATON_RETURN_IF_ERROR(pack(source, "token_embd.weight", c.vocab, 0, weights.embedding));
  BATON_RETURN_IF_ERROR(read_norm(source, "output_norm.weight", c.hidden, weights.output_norm));
  if (!tied) {
    weights.output = PackedMatrix(c.hidden, c.vocab);
    BATON_RETURN_IF_ERROR(pack(source, "output.weight", c.vocab, 0, weights.output));
  }
  weights.layers.resize(c.layers);
  for (uint32_t i = 0; i < c.layers; ++i) {
    BATON_RETURN_IF_ERROR(read_layer(source, i, weights, weights.layers[i]));
  }
  return {};
}

}  // namespace

void LlamaWeights::embed(uint32_t token, float* out) const {
  const float* column = embedding.panel(token / kPanel) + token % kPanel;
  for (size_t k = 0; k < embedding.k; ++k) out[k] = column[k * kPanel];
}

Result<std::unique_ptr<const LlamaWeights>> LlamaWeights::from_gguf(const GgufFile& file) {
  auto weights = std::make_unique<LlamaWeights>();
  BATON_ASSIGN_OR_RETURN(weights->config, LlamaConfig::from_gguf(file));
  GgufSource source(file);
  const bool tied = file.find_tensor("output.weight") == nullptr;
  BATON_RETURN_IF_ERROR(check_tensors(source, tied, weights->config));
  BATON_RETURN_IF_ERROR(source.all_used());
  BATON_RETURN_IF_ERROR(read_weights(source, tied, *weights));
  return std::unique_ptr<const LlamaWeights>(std::move(weights));
}

std::unique_ptr<const LlamaWeights> LlamaWeights::random(const RandomModelSpec& spec) {
  auto weights = std::make_unique<LlamaWeights>();
  weights->config = spec.config;
  RandomSource source(spec.seed);
  const Status status = read_weights(source, /*tied=*/false, *weights);
  BATON_CHECK(status.ok(), status.to_string());
  return weights;
}

}  // namespace baton::reference
