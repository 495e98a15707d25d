#include "examples/reference_engine/llama.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "examples/reference_engine/gguf.h"
#include "examples/reference_engine/thread_pool.h"
#include "examples/reference_engine/weights.h"
#include "transfer/base/check.h"
#include "transfer/base/nvtx.h"

namespace baton::reference {
namespace {

// Sizes of work items. They decide who computes what and when, never any bit.
constexpr size_t kGemmRows = 96;
constexpr size_t kGemmPanels = 4;
constexpr uint32_t kRowsPerItem = 16;
constexpr uint32_t kAttentionTokens = 64;

constexpr uint32_t kMaxThreads = 64;

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

KvView KvView::packed(const LlamaConfig& config, std::span<std::byte* const> layers,
                      uint32_t block_tokens, uint32_t blocks) {
  KvView view;
  view.layers = layers;
  view.block_tokens = block_tokens;
  view.blocks = blocks;
  view.head_stride = config.head_dim * sizeof(float);
  view.token_stride = config.kv_heads * view.head_stride;
  view.plane_stride = block_tokens * view.token_stride;
  view.block_stride = 2 * view.plane_stride;
  return view;
}

Result<ModelSource> ModelSource::parse(std::string_view text) {
  ModelSource source;
  constexpr std::string_view kRandom = "random:";
  if (text.starts_with(kRandom)) {
    BATON_ASSIGN_OR_RETURN(source.random, RandomModelSpec::parse(text.substr(kRandom.size())));
  } else if (text.empty()) {
    return Status(Code::kInvalidArgument, "model: expected a file or \"random:…\", found nothing");
  } else {
    source.path = text;
  }
  return source;
}

// One step's scratch: activations row by row (one row a token), work lists, per-thread tiles.
struct Llama::Step {
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

// The layers of one step; lives as long as the call.
class Llama::Runner {
 public:
  Runner(Llama& model, std::span<const SequenceChunk> chunks, const KvView& kv)
      : w_(*model.weights_),
        c_(w_.config),
        k_(model.kernels_),
        pool_(*model.pool_),
        s_(*model.step_),
        rope_(model.rope_.data()),
        chunks_(chunks),
        kv_(kv),
        hidden_(round_to_panel(c_.hidden)) {}

  void embed() {
    for_rows([&](uint32_t row) {
      const auto [chunk, position] = s_.rows[row];
      const SequenceChunk& from = chunks_[chunk];
      w_.embed(from.tokens[position - from.first_position], s_.x.data() + row * hidden_);
    });
  }

  // Up to the point where the layer's keys and values are in place.
  void project_and_store(uint32_t layer) {
    const LayerWeights& w = w_.layers[layer];
    normalise(w.attention_norm);
    multiply(s_.normed.data(), hidden_, s_.rows.size(), w.qkv, s_.qkv.data(), w.qkv.width(), false);
    for_rows([&](uint32_t row) { rotate_and_store(layer, row); });
  }

  void attend_and_feed_forward(uint32_t layer) {
    const LayerWeights& w = w_.layers[layer];
    const size_t rows = s_.rows.size();
    pool_.parallel_for(static_cast<uint32_t>(s_.attention.size()), [&](uint32_t i, uint32_t t) {
      attend(layer, s_.attention[i], s_.tiles[t]);
    });
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

  void logits(std::vector<float>& out) {
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

 private:
  template <typename F>
  void for_rows(const F& f) {
    const auto rows = static_cast<uint32_t>(s_.rows.size());
    pool_.parallel_for(static_cast<uint32_t>(ceil_div(rows, kRowsPerItem)),
                       [&](uint32_t item, uint32_t) {
                         const uint32_t end = std::min(rows, (item + 1) * kRowsPerItem);
                         for (uint32_t row = item * kRowsPerItem; row < end; ++row) f(row);
                       });
  }

  void normalise(const FloatBuffer& weight) {
    for_rows([&](uint32_t row) {
      k_.rms_norm(s_.x.data() + row * hidden_, weight.data(), hidden_, c_.hidden, c_.rms_eps,
                  s_.normed.data() + row * hidden_);
    });
  }

  void multiply(const float* x, size_t x_stride, size_t rows, const PackedMatrix& matrix, float* y,
                size_t y_stride, bool add) {
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
  void rotate(float* head, const float* cos_sin) const {
    for (uint32_t i = 0; i < c_.head_dim; i += 2) {
      const float cosine = cos_sin[i], sine = cos_sin[i + 1];
      const float a = head[i], b = head[i + 1];
      head[i] = a * cosine - b * sine;
      head[i + 1] = a * sine + b * cosine;
    }
  }

  void rotate_and_store(uint32_t layer, uint32_t row) {
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
  void load_tile(const KvReader& keys, const KvReader& values, uint32_t begin, uint32_t count,
                 Step::Tiles& tiles) const {
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
  void attend(uint32_t layer, const Step::AttentionItem& item, Step::Tiles& tiles) const {
    const size_t group = c_.heads / c_.kv_heads, dim = c_.head_dim, padded = round_to_panel(dim);
    const size_t qkv_width = w_.layers[layer].qkv.width();
    const size_t states = item.rows * group;
    std::fill_n(tiles.maximum.data(), states, -std::numeric_limits<float>::infinity());
    std::fill_n(tiles.sum.data(), states, 0.0f);
    std::fill_n(tiles.out.data(), states * padded, 0.0f);

    const auto blocks = chunks_[item.chunk].blocks;
    const KvReader keys(kv_, blocks, layer, 0, item.kv_head);
    const KvReader values(kv_, blocks, layer, 1, item.kv_head);
    const uint32_t first = s_.rows[item.first_row].position, end = first + item.rows;
    for (uint32_t begin = 0; begin < end; begin += kKeyTile) {
      load_tile(keys, values, begin, std::min<uint32_t>(kKeyTile, end - begin), tiles);
      for (uint32_t i = begin > first ? begin - first : 0; i < item.rows; ++i) {
        const size_t state = i * group;
        k_.attend(
            {.q = s_.qkv.data() + (item.first_row + i) * qkv_width + item.kv_head * group * dim,
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

  const LlamaWeights& w_;
  const LlamaConfig& c_;
  const CpuKernels& k_;
  ThreadPool& pool_;
  Step& s_;
  const float* rope_;
  std::span<const SequenceChunk> chunks_;
  const KvView& kv_;
  const size_t hidden_;
};

Llama::Llama(std::unique_ptr<const LlamaWeights> weights, uint32_t threads, Isa isa)
    : weights_(std::move(weights)),
      pool_(std::make_unique<ThreadPool>(threads)),
      isa_(isa),
      kernels_(cpu_kernels(isa)),
      step_(std::make_unique<Step>()) {
  const LlamaConfig& c = weights_->config;
  const size_t padded = round_to_panel(c.head_dim);
  const size_t states = size_t{kAttentionTokens} * (c.heads / c.kv_heads);
  for (uint32_t i = 0; i < threads; ++i) {
    step_->tiles.push_back({FloatBuffer(kKeyTile * c.head_dim), FloatBuffer(kKeyTile * padded),
                            FloatBuffer(states), FloatBuffer(states),
                            FloatBuffer(states * padded)});
  }
}

Llama::~Llama() = default;

namespace {

Status check_machine(uint32_t threads, Isa isa) {
  if (threads < 1 || threads > kMaxThreads) {
    return Status(Code::kInvalidArgument,
                  "threads: expected 1 to 64, found " + std::to_string(threads));
  }
  const auto isas = available_isas();
  if (std::find(isas.begin(), isas.end(), isa) == isas.end()) {
    return Status(Code::kInvalidArgument, std::string("instruction set: expected one of this "
                                                      "machine's, found ") +
                                              isa_name(isa));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Llama>> Llama::create(const ModelSource& source, uint32_t threads, Isa isa) {
  if (!source.path.empty()) {
    BATON_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(source.path));
    return create(file, threads, isa);
  }
  BATON_RETURN_IF_ERROR(check_machine(threads, isa));
  BATON_RETURN_IF_ERROR(source.random.config.validate());
  return std::unique_ptr<Llama>(new Llama(LlamaWeights::random(source.random), threads, isa));
}

Result<std::unique_ptr<Llama>> Llama::create(const GgufFile& file, uint32_t threads, Isa isa) {
  BATON_RETURN_IF_ERROR(check_machine(threads, isa));
  BATON_ASSIGN_OR_RETURN(auto weights, LlamaWeights::from_gguf(file));
  return std::unique_ptr<Llama>(new Llama(std::move(weights), threads, isa));
}

const LlamaConfig& Llama::config() const { return weights_->config; }

void Llama::extend_rope(uint32_t positions) {
  const LlamaConfig& c = weights_->config;
  auto done = static_cast<uint32_t>(rope_.size() / c.head_dim);
  if (positions <= done) return;
  // In large steps; never beyond the context, which bounds positions.
  positions = std::min(c.context, std::max(positions, done * 2));
  rope_.resize(size_t{positions} * c.head_dim);
  for (; done < positions; ++done) {
    for (uint32_t i = 0; i < c.head_dim; i += 2) {
      const double angle =
          done * std::pow(static_cast<double>(c.rope_base), -static_cast<double>(i) / c.head_dim);
      rope_[size_t{done} * c.head_dim + i] = static_cast<float>(std::cos(angle));
      rope_[size_t{done} * c.head_dim + i + 1] = static_cast<float>(std::sin(angle));
    }
  }
}

void Llama::plan(std::span<const SequenceChunk> chunks, const KvView& kv) {
  const LlamaConfig& c = weights_->config;
  BATON_CHECK(kv.layers.size() == c.layers && kv.block_tokens > 0, "KV of another model");
  Step& step = *step_;
  step.rows.clear();
  step.attention.clear();
  step.wanted.clear();
  uint32_t positions = 0;
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    const SequenceChunk& chunk = chunks[i];
    const auto tokens = static_cast<uint32_t>(chunk.tokens.size());
    BATON_CHECK(tokens > 0 && uint64_t{chunk.first_position} + tokens <= c.context,
                "a chunk needs tokens, and positions within the context");
    const uint32_t end = chunk.first_position + tokens;
    const size_t used = ceil_div(end, kv.block_tokens);
    BATON_CHECK(chunk.blocks.size() >= used, "too few blocks for the chunk");
    for (const uint32_t block : chunk.blocks.first(used)) {
      BATON_CHECK(block < kv.blocks, "block id beyond the KV memory");
    }
    for (const uint32_t token : chunk.tokens) BATON_CHECK(token < c.vocab, "token beyond vocab");

    const auto first_row = static_cast<uint32_t>(step.rows.size());
    for (uint32_t p = chunk.first_position; p < end; ++p) step.rows.push_back({i, p});
    for (uint32_t t = 0; t < tokens; t += kAttentionTokens) {
      for (uint32_t head = 0; head < c.kv_heads; ++head) {
        step.attention.push_back({i, head, first_row + t, std::min(kAttentionTokens, tokens - t)});
      }
    }
    if (chunk.want_logits) step.wanted.push_back(static_cast<uint32_t>(step.rows.size() - 1));
    positions = std::max(positions, end);
  }
  // The longest first, so that the loop ends evenly.
  std::stable_sort(step.attention.begin(), step.attention.end(), [&](const auto& a, const auto& b) {
    return step.rows[a.first_row].position > step.rows[b.first_row].position;
  });
  step.reserve(*weights_);
  extend_rope(positions);
}

void Llama::forward(std::span<const SequenceChunk> chunks, const KvView& kv,
                    const std::function<void(uint32_t layer)>& on_layer,
                    std::vector<float>* logits) {
  NvtxRange range("reference forward");
  if (logits != nullptr) logits->clear();
  if (chunks.empty()) return;
  plan(chunks, kv);
  Runner runner(*this, chunks, kv);
  runner.embed();
  for (uint32_t layer = 0; layer < weights_->config.layers; ++layer) {
    runner.project_and_store(layer);
    if (on_layer) on_layer(layer);
    runner.attend_and_feed_forward(layer);
  }
  if (!step_->wanted.empty()) {
    BATON_CHECK(logits != nullptr, "a chunk wants logits, and there is no place for them");
    runner.logits(*logits);
  }
}

}  // namespace baton::reference
