#include "examples/reference_engine/llama.h"

#include <algorithm>
#include <cmath>

#include "examples/reference_engine/gguf.h"
#include "examples/reference_engine/llama_step.h"
#include "transfer/base/check.h"
#include "transfer/base/nvtx.h"

namespace baton::reference {
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

Llama::Llama(std::unique_ptr<const LlamaWeights> weights, uint32_t threads, Isa isa)
    : weights_(std::move(weights)),
      pool_(std::make_unique<ThreadPool>(threads)),
      isa_(isa),
      kernels_(cpu_kernels(isa)),
      step_(std::make_unique<LlamaStep>()) {
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

constexpr uint32_t kMaxThreads = 64;

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
  LlamaStep& step = *step_;
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
    const size_t used = (size_t{end} + kv.block_tokens - 1) / kv.block_tokens;
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
  LayerRunner runner(*weights_, kernels_, *pool_, *step_, rope_.data(), chunks, kv);
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
