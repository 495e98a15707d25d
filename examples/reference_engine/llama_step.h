// Inside Llama: one step's scratch memory, and the layers of a step over it.
//
// Confined to the thread of Llama::forward.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "examples/reference_engine/llama.h"
#include "examples/reference_engine/thread_pool.h"
#include "examples/reference_engine/weights.h"

namespace baton::reference {

// The most tokens of one attention work item.
inline constexpr uint32_t kAttentionTokens = 64;

// One step's scratch: activations row by row (one row a token), work lists, per-thread tiles.
struct LlamaStep {
  struct Row {
    uint32_t chunk;
    uint32_t position;
  };
  struct AttentionItem {
    uint32_t chunk;
    uint32_t kv_head;
    uint32_t first_row;
    uint32_t rows;
  };
  struct Tiles {  // of one thread
    FloatBuffer keys, values, maximum, sum, out;
  };

  std::vector<Row> rows;
  std::vector<AttentionItem> attention;
  std::vector<uint32_t> wanted;  // rows whose logits are wanted
  std::vector<Tiles> tiles;
  size_t capacity = 0;  // rows that the buffers below hold
  FloatBuffer x, normed, qkv, attended, gate_up, active;
  std::vector<float> final_x, logits;

  void reserve(const LlamaWeights& w) {
    if (rows.size() <= capacity) return;
    capacity = std::max<size_t>(rows.size(), 16);
    const size_t hidden = round_to_panel(w.config.hidden);
    x = FloatBuffer(capacity * hidden);
    normed = FloatBuffer(capacity * hidden);
    qkv = FloatBuffer(capacity * w.layers[0].qkv.width());
    attended = FloatBuffer(capacity * w.config.q_width());
    gate_up = FloatBuffer(capacity * w.layers[0].gate_up.width());
    active = FloatBuffer(capacity * w.up_offset());
  }
};

// The layers of one step; lives as long as the call of forward.
class LayerRunner {
 public:
  // `rope`: [position][head_dim / 2][cos, sin]. Borrows everything.
  LayerRunner(const LlamaWeights& weights, const CpuKernels& kernels, ThreadPool& pool,
              LlamaStep& step, const float* rope, std::span<const SequenceChunk> chunks,
              const KvView& kv)
      : w_(weights),
        c_(weights.config),
        k_(kernels),
        pool_(pool),
        s_(step),
        rope_(rope),
        chunks_(chunks),
        kv_(kv),
        hidden_(round_to_panel(c_.hidden)) {}

  void embed();
  // Up to the point where the layer's keys and values are in place.
  void project_and_store(uint32_t layer);
  void attend_and_feed_forward(uint32_t layer);
  // [rows wanted][vocab]
  void logits(std::vector<float>& out);

 private:
  template <typename F>
  void for_rows(const F& f);
  void normalise(const FloatBuffer& weight);
  // y[rows][y_stride] = x·W, or += with `add`.
  void multiply(const float* x, size_t x_stride, size_t rows, const PackedMatrix& matrix, float* y,
                size_t y_stride, bool add);
  void rotate(float* head, const float* cos_sin) const;
  void rotate_and_store(uint32_t layer, uint32_t row);
  void load_tile(uint32_t layer, const LlamaStep::AttentionItem& item, uint32_t begin,
                 uint32_t count, LlamaStep::Tiles& tiles) const;
  void attend(uint32_t layer, const LlamaStep::AttentionItem& item, LlamaStep::Tiles& tiles) const;

  const LlamaWeights& w_;
  const LlamaConfig& c_;
  const CpuKernels& k_;
  ThreadPool& pool_;
  LlamaStep& s_;
  const float* rope_;
  std::span<const SequenceChunk> chunks_;
  const KvView& kv_;
  const size_t hidden_;
};

}  // namespace baton::reference
