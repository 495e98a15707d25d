#include "examples/reference_engine/llama_step.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace baton::reference {
namespace {

// Sizes of work items. They decide who computes what and when, never any bit.
constexpr size_t kGemmRows = 96;
constexpr size_t kGemmPanels = 4;
constexpr uint32_t kRowsPerItem = 16;

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

// Reads one plane of one KV head at absolute positions.
class KvReader {
 public:
  KvReader(const KvView& kv, std::span<const uint32_t> blocks, uint32_t layer, uint32_t plane,
           uint32_t head)
      : kv_(kv),
        blocks_(blocks),
        base_(kv.layers[layer] + plane * kv.plane_stride + head * kv.head_stride) {}

  float* at(uint32_t position) const {
    return reinterpret_cast<float*>(base_ +
                                    blocks_[position / kv_.block_tokens] * kv_.block_stride +
                                    position % kv_.block_tokens * kv_.token_stride);
  }

 private:
  const KvView& kv_;
  std::span<const uint32_t> blocks_;
  std::byte* base_;
};

}  // namespace

template <typename F>
void LayerRunner::for_rows(const F& f) {
  const auto rows = static_cast<uint32_t>(s_.rows.size());
  pool_.parallel_for(static_cast<uint32_t>(ceil_div(rows, kRowsPerItem)),
                     [&](uint32_t item, uint32_t) {
                       const uint32_t end = std::min(rows, (item + 1) * kRowsPerItem);
                       for (uint32_t row = item * kRowsPerItem; row < end; ++row) f(row);
                     });
}

void LayerRunner::embed() {
  for_rows([&](uint32_t row) {
    const auto [chunk, position] = s_.rows[row];
    const SequenceChunk& from = chunks_[chunk];
    w_.embed(from.tokens[position - from.first_position], s_.x.data() + row * hidden_);
  });
}

void LayerRunner::project_and_store(uint32_t layer) {
  const LayerWeights& w = w_.layers[layer];
  normalise(w.attention_norm);
  multiply(s_.normed.data(), hidden_, s_.rows.size(), w.qkv, s_.qkv.data(), w.qkv.width(), false);
  for_rows([&](uint32_t row) { rotate_and_store(layer, row); });
}

void LayerRunner::attend_and_feed_forward(uint32_t layer) {
  const LayerWeights& w = w_.layers[layer];
  const size_t rows = s_.rows.size();
  pool_.parallel_for(static_cast<uint32_t>(s_.attention.size()),
                     [&](uint32_t i, uint32_t t) { attend(layer, s_.attention[i], s_.tiles[t]); });
  multiply(s_.attended.data(), c_.q_width(), rows, w.attention_out, s_.x.data(), hidden_, true);

  normalise(w.ffn_norm);
  const size_t width = w.gate_up.width(), up = w_.up_offset();
  multiply(s_.normed.data(), hidden_, rows, w.gate_up, s_.gate_up.data(), width, false);
  for_rows([&](uint32_t row) {
    const float* gate = s_.gate_up.data() + row * width;
    k_.silu_mul(gate, gate + up, up, s_.active.data() + row * up);
  });
  multiply(s_.active.data(), up, rows, w.down, s_.x.data(), hidden_, true);
}

void LayerRunner::logits(std::vector<float>& out) {
  const PackedMatrix& matrix = w_.output_matrix();
  const size_t rows = s_.wanted.size();
  s_.final_x.resize(rows * hidden_);
  s_.logits.resize(rows * matrix.width());
  for (size_t i = 0; i < rows; ++i) {
    k_.rms_norm(s_.x.data() + s_.wanted[i] * hidden_, w_.output_norm.data(), hidden_, c_.hidden,
                c_.rms_eps, s_.final_x.data() + i * hidden_);
  }
  multiply(s_.final_x.data(), hidden_, rows, matrix, s_.logits.data(), matrix.width(), false);
  out.resize(rows * c_.vocab);
  for (size_t i = 0; i < rows; ++i) {
    std::copy_n(s_.logits.data() + i * matrix.width(), c_.vocab, out.data() + i * c_.vocab);
  }
}

void LayerRunner::normalise(const FloatBuffer& weight) {
  for_rows([&](uint32_t row) {
    k_.rms_norm(s_.x.data() + row * hidden_, weight.data(), hidden_, c_.hidden, c_.rms_eps,
                s_.normed.data() + row * hidden_);
  });
}

void LayerRunner::multiply(const float* x, size_t x_stride, size_t rows, const PackedMatrix& matrix,
                           float* y, size_t y_stride, bool add) {
  const size_t groups = ceil_div(matrix.panels, kGemmPanels);
  const size_t row_blocks = ceil_div(rows, kGemmRows);
  pool_.parallel_for(static_cast<uint32_t>(groups * row_blocks), [&](uint32_t item, uint32_t) {
    const size_t row = item / groups * kGemmRows;
    const size_t panel = item % groups * kGemmPanels;
    k_.gemm({x + row * x_stride, x_stride, std::min(kGemmRows, rows - row), matrix.panel(panel),
             matrix.k, std::min(kGemmPanels, matrix.panels - panel),
             y + row * y_stride + panel * kPanel, y_stride, add});
  });
}

// Rotates neighbouring pairs (GGUF's order of q and k rows) by position.
void LayerRunner::rotate(float* head, const float* cos_sin) const {
  for (uint32_t i = 0; i < c_.head_dim; i += 2) {
    const float cosine = cos_sin[i], sine = cos_sin[i + 1];
    const float a = head[i], b = head[i + 1];
    head[i] = a * cosine - b * sine;
    head[i + 1] = a * sine + b * cosine;
  }
}

void LayerRunner::rotate_and_store(uint32_t layer, uint32_t row) {
  const auto [chunk, position] = s_.rows[row];
  float* q = s_.qkv.data() + row * w_.layers[layer].qkv.width();
  float* k = q + w_.k_offset();
  const float* v = q + w_.v_offset();
  const float* cos_sin = rope_ + size_t{position} * c_.head_dim;
  for (uint32_t head = 0; head < c_.heads; ++head) rotate(q + head * c_.head_dim, cos_sin);
  for (uint32_t head = 0; head < c_.kv_heads; ++head) {
    rotate(k + head * c_.head_dim, cos_sin);
    const auto blocks = chunks_[chunk].blocks;
    const size_t offset = size_t{head} * c_.head_dim, bytes = c_.head_dim * sizeof(float);
    std::memcpy(KvReader(kv_, blocks, layer, 0, head).at(position), k + offset, bytes);
    std::memcpy(KvReader(kv_, blocks, layer, 1, head).at(position), v + offset, bytes);
  }
}

// The keys (transposed panel by panel) and values at positions [begin, begin + count).
void LayerRunner::load_tile(uint32_t layer, const LlamaStep::AttentionItem& item, uint32_t begin,
                            uint32_t count, LlamaStep::Tiles& tiles) const {
  const auto blocks = chunks_[item.chunk].blocks;
  const KvReader keys(kv_, blocks, layer, 0, item.kv_head);
  const KvReader values(kv_, blocks, layer, 1, item.kv_head);
  const size_t dim = c_.head_dim, padded = round_to_panel(dim);
  for (uint32_t i = 0; i < count; ++i) {
    std::memcpy(tiles.values.data() + i * padded, values.at(begin + i), dim * sizeof(float));
  }
  for (uint32_t first = 0; first < count; first += kPanel) {
    const float* lane[kPanel];
    const uint32_t lanes = std::min<uint32_t>(kPanel, count - first);
    for (uint32_t i = 0; i < lanes; ++i) lane[i] = keys.at(begin + first + i);
    float* out = tiles.keys.data() + first * dim;
    for (size_t d = 0; d < dim; ++d, out += kPanel) {
      for (uint32_t i = 0; i < lanes; ++i) out[i] = lane[i][d];
    }
  }
}

// Some consecutive tokens of a chunk, all query heads of one KV head.
void LayerRunner::attend(uint32_t layer, const LlamaStep::AttentionItem& item,
                         LlamaStep::Tiles& tiles) const {
  const size_t group = c_.heads / c_.kv_heads, dim = c_.head_dim, padded = round_to_panel(dim);
  const size_t qkv_width = w_.layers[layer].qkv.width();
  const size_t states = item.rows * group;
  std::fill_n(tiles.maximum.data(), states, -std::numeric_limits<float>::infinity());
  std::fill_n(tiles.sum.data(), states, 0.0f);
  std::fill_n(tiles.out.data(), states * padded, 0.0f);

  const uint32_t first = s_.rows[item.first_row].position, end = first + item.rows;
  for (uint32_t begin = 0; begin < end; begin += kKeyTile) {
    load_tile(layer, item, begin, std::min<uint32_t>(kKeyTile, end - begin), tiles);
    for (uint32_t i = begin > first ? begin - first : 0; i < item.rows; ++i) {
      const size_t state = i * group;
      k_.attend({.q = s_.qkv.data() + (item.first_row + i) * qkv_width + item.kv_head * group * dim,
                 .q_stride = dim,
                 .heads = group,
                 .head_dim = dim,
                 .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                 .keys = tiles.keys.data(),
                 .values = tiles.values.data(),
                 .valid = std::min<size_t>(kKeyTile, first + i + 1 - begin),
                 .maximum = tiles.maximum.data() + state,
                 .sum = tiles.sum.data() + state,
                 .out = tiles.out.data() + state * padded});
    }
  }
  for (uint32_t i = 0; i < item.rows; ++i) {
    for (size_t h = 0; h < group; ++h) {
      const size_t state = i * group + h;
      float* out = s_.attended.data() + (item.first_row + i) * c_.q_width() +
                   (item.kv_head * group + h) * dim;
      for (size_t d = 0; d < dim; ++d) {
        out[d] = tiles.out.data()[state * padded + d] / tiles.sum.data()[state];
      }
    }
  }
}

}  // namespace baton::reference
