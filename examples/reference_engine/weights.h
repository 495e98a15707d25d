// A Llama's weights as the forward pass wants them: float32, packed into panels (cpu_kernels.h).
//
// Immutable after creation, hence thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "examples/reference_engine/cpu_kernels.h"
#include "examples/reference_engine/model_config.h"
#include "transfer/base/status.h"

namespace baton::reference {

class GgufFile;

// Zeroed floats, aligned to a cache line; large ones on huge pages where the system gives them
// (fresh small pages cost more than reading the model).
class FloatBuffer {
 public:
  FloatBuffer() = default;
  explicit FloatBuffer(size_t size);
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    std::align_val_t alignment;
    void operator()(float* p) const { ::operator delete[](p, alignment); }
  };
  std::unique_ptr<float[], Free> data_{nullptr, Free{std::align_val_t{64}}};
  size_t size_ = 0;
};

// y = x·W for W[k][columns], as [columns / 16][k][16].
struct PackedMatrix {
  PackedMatrix() = default;
  PackedMatrix(size_t k, size_t columns)
      : k(k), panels(round_to_panel(columns) / kPanel), values(panels * k * kPanel) {}
  const float* panel(size_t index) const { return values.data() + index * k * kPanel; }
  // The first column of a part that was put beside others begins at a panel.
  size_t width() const { return panels * kPanel; }

  size_t k = 0;
  size_t panels = 0;
  FloatBuffer values;
};

struct LayerWeights {
  FloatBuffer attention_norm;  // [hidden], padded to panels with zeros
  PackedMatrix qkv;            // hidden -> q, k, v, each padded to panels
  PackedMatrix attention_out;  // q_width -> hidden
  FloatBuffer ffn_norm;
  PackedMatrix gate_up;  // hidden -> gate, up, each padded to panels
  PackedMatrix down;     // ffn -> hidden
};

struct LlamaWeights {
  LlamaConfig config;
  PackedMatrix embedding;  // column per token: also the output matrix, unless there is one
  PackedMatrix output;     // empty when tied
  FloatBuffer output_norm;
  std::vector<LayerWeights> layers;

  const PackedMatrix& output_matrix() const { return output.panels > 0 ? output : embedding; }
  // Column offsets in qkv and gate_up.
  size_t k_offset() const { return round_to_panel(config.q_width()); }
  size_t v_offset() const { return k_offset() + round_to_panel(config.kv_width()); }
  size_t up_offset() const { return round_to_panel(config.ffn); }
  // Writes hidden floats.
  void embed(uint32_t token, float* out) const;

  // kInvalidArgument: a tensor that is missing, misshapen, or that this model does not know
  // (ignoring it would give wrong tokens); named.
  static Result<std::unique_ptr<const LlamaWeights>> from_gguf(const GgufFile& file);
  // Scaled so that activations keep their size, attention is sharp enough for every earlier token
  // to matter, and logits spread by several units: no ties, no constant answers.
  static std::unique_ptr<const LlamaWeights> random(const RandomModelSpec& spec);
};

}  // namespace baton::reference
