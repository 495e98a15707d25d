// Llama on the CPU, over paged KV, in float32. Batch-invariant: a token's keys, values and logits
// are the same bits whatever else runs in the step, however the prompt was cut into steps, and
// whatever the KV block size and the number of threads. Token-by-token comparison of two
// deployments rests on it.
//
// By construction, not by care: every output of a matrix product is one sum over k in ascending
// order, whatever the number of rows (no library of matrix products promises that: they choose
// tiles, splits of k and kernels by shape, which is why this does not use one); attention runs per
// (token, head) over tiles of keys cut at absolute positions, in ascending order, and never reads
// beyond the token's own position. Bits may differ between instruction sets (Isa).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "examples/reference_engine/cpu_kernels.h"
#include "examples/reference_engine/model_config.h"
#include "transfer/base/status.h"

namespace baton::reference {

class GgufFile;
struct LlamaStep;
struct LlamaWeights;
class ThreadPool;

// Where the paged keys and values of every layer lie: float32, strides in bytes, head_dim
// contiguous. Element (block, plane, token in block, kv head, dim) of a layer is at
//   layers[layer] + block * block_stride + plane * plane_stride + token * token_stride
//                 + head * head_stride + dim * 4
// Plane 0 is K (after rotation), plane 1 is V. A view: owns nothing.
struct KvView {
  std::span<std::byte* const> layers;
  uint32_t block_tokens = 16;
  uint32_t blocks = 0;  // ids in block tables are below this
  size_t block_stride = 0;
  size_t plane_stride = 0;
  size_t token_stride = 0;
  size_t head_stride = 0;

  // [block][plane][token][kv head][dim] without padding.
  static KvView packed(const LlamaConfig& config, std::span<std::byte* const> layers,
                       uint32_t block_tokens, uint32_t blocks);
};

// What one sequence does in a step: computes `tokens`, which stand at positions first_position…;
// the KV of all earlier positions must be in place. blocks[p / block_tokens] holds position p.
struct SequenceChunk {
  std::span<const uint32_t> tokens;
  uint32_t first_position = 0;
  std::span<const uint32_t> blocks;
  bool want_logits = false;  // of its last token
};

// A GGUF file, or a seeded random model.
struct ModelSource {
  std::string path;  // empty: random
  RandomModelSpec random;

  // "random:layers=4,…" or a path. Errors: RandomModelSpec::parse's. The file is not touched.
  static Result<ModelSource> parse(std::string_view text);
};

// Thread: one step at a time; confined to whoever calls forward().
class Llama {
 public:
  // threads: including the caller of forward(); 1…64. `isa`: kInvalidArgument where the machine
  // lacks it. Errors: unreadable or malformed file, missing or misshapen tensor (named).
  static Result<std::unique_ptr<Llama>> create(const ModelSource& source, uint32_t threads,
                                               Isa isa = best_isa());
  // The same from a file that is already open; it may be closed afterwards.
  static Result<std::unique_ptr<Llama>> create(const GgufFile& file, uint32_t threads,
                                               Isa isa = best_isa());
  ~Llama();
  Llama(const Llama&) = delete;
  Llama& operator=(const Llama&) = delete;

  const LlamaConfig& config() const;
  Isa isa() const { return isa_; }

  // Runs one step over all chunks; the cost grows with the sum of their tokens, which the caller
  // bounds (scratch memory too: about 4·(3·hidden + 3·ffn) bytes a token).
  //
  // on_layer(layer) runs on the calling thread when the keys and values of that layer of every
  // token of this step are in the KV memory: right after they are written, before the layer's
  // attention. It may block; no other thread of the model works meanwhile. May be empty.
  //
  // logits (may be null when nobody wants any) becomes [chunks wanting logits][vocab], in the
  // order of chunks. Two chunks may belong to one sequence; blocks may be shared for reading.
  // Tokens below vocab, positions below context, enough blocks and ids below kv.blocks are the
  // caller's duty (CHECK).
  void forward(std::span<const SequenceChunk> chunks, const KvView& kv,
               const std::function<void(uint32_t layer)>& on_layer, std::vector<float>* logits);

 private:
  Llama(std::unique_ptr<const LlamaWeights> weights, uint32_t threads, Isa isa);
  // Checks the step and lays out its rows and work items.
  void plan(std::span<const SequenceChunk> chunks, const KvView& kv);
  void extend_rope(uint32_t positions);

  std::unique_ptr<const LlamaWeights> weights_;
  std::unique_ptr<ThreadPool> pool_;
  const Isa isa_;
  const CpuKernels& kernels_;
  std::vector<float> rope_;          // [position][head_dim / 2][cos, sin], grown as positions come
  std::unique_ptr<LlamaStep> step_;  // scratch, kept from step to step
};

}  // namespace baton::reference
