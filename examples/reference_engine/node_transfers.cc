#include "examples/reference_engine/node_transfers.h"

#include <array>
#include <charconv>

#include "connectors/decode_session.h"
#include "connectors/prefill_session.h"

namespace baton::reference {
namespace {

class NodePrefill final : public PrefillTransfer {
 public:
  explicit NodePrefill(std::unique_ptr<PrefillSession> session) : session_(std::move(session)) {}
  void begin(std::span<const uint32_t> blocks, uint32_t cached_tokens) override {
    session_->begin(blocks, cached_tokens);
  }
  void layer_ready(uint32_t layer, uint32_t tokens) override {
    session_->layer_ready(layer, tokens);
  }
  void finish() override { session_->finish(); }
  void abort(const std::string& why) override { session_->abort(why); }
  HandoffReport report() const override { return session_->report(); }

 private:
  const std::unique_ptr<PrefillSession> session_;
};

class NodeDecode final : public DecodeTransfer {
 public:
  explicit NodeDecode(std::unique_ptr<DecodeSession> session) : session_(std::move(session)) {}
  Poll poll() const override { return session_->poll(); }
  void accept(std::span<const uint32_t> blocks) override { session_->accept(blocks, 0); }
  void refuse(const std::string& why) override { session_->refuse(why); }
  void done() override { session_->done(); }
  void abort(const std::string& why) override { session_->abort(why); }
  HandoffReport report() const override { return session_->report(); }

 private:
  const std::unique_ptr<DecodeSession> session_;
};

class NodeTransfers final : public KvTransfers {
 public:
  explicit NodeTransfers(Node& node) : node_(node) {}

  Result<std::unique_ptr<PrefillTransfer>> prefill(const TransferParams& params,
                                                   const std::vector<uint32_t>& prompt,
                                                   Duration budget, Callback on_released) override {
    std::optional<Duration> lease;
    if (params.keep) lease = Duration::zero();
    BATON_ASSIGN_OR_RETURN(auto session, PrefillSession::create(node_,
                                                                {.handoff = params.handoff,
                                                                 .peer = params.peer,
                                                                 .budget = budget,
                                                                 .lease = lease,
                                                                 .tokens = prompt,
                                                                 .salt = params.salt},
                                                                std::move(on_released)));
    return std::unique_ptr<PrefillTransfer>(new NodePrefill(std::move(session)));
  }

  Result<std::unique_ptr<DecodeTransfer>> decode(const TransferParams& params,
                                                 const std::vector<uint32_t>& prompt,
                                                 Duration budget, Callback on_change,
                                                 Callback on_released) override {
    BATON_ASSIGN_OR_RETURN(auto session,
                           DecodeSession::create(node_,
                                                 {.handoff = params.handoff,
                                                  .flow = params.flow,
                                                  .peer = params.peer,
                                                  .budget = budget,
                                                  .tokens = prompt,
                                                  .salt = params.salt},
                                                 std::move(on_change), std::move(on_released)));
    return std::unique_ptr<DecodeTransfer>(new NodeDecode(std::move(session)));
  }

 private:
  Node& node_;
};

// The shortest text that reads back as the same number, on every machine.
std::string shortest(float number) {
  std::array<char, 32> text;
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), number);
  return {text.data(), end};
}

}  // namespace

std::unique_ptr<KvTransfers> make_node_transfers(Node& node) {
  return std::make_unique<NodeTransfers>(node);
}

Fingerprint fingerprint_of(const Model& model) {
  const LlamaConfig& config = model.llama->config();
  return {.model = model.name + "@" + model.revision,
          .dtype = "float32",
          .layers = config.layers,
          .planes = 2,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .rope = "base=" + shortest(config.rope_base) +
                  ",dimensions=" + std::to_string(config.head_dim),
          .opaque_layout = ""};
}

KvMemory kv_memory_of(const KvCache& cache, const LlamaConfig& config) {
  const KvView& view = cache.view();
  KvMemory memory;
  memory.layout.block_tokens = view.block_tokens;
  memory.layout.planes = 2;
  memory.layout.heads = config.kv_heads;
  memory.layout.head_bytes = config.head_dim * static_cast<uint32_t>(sizeof(float));
  memory.layout.block_stride = static_cast<int64_t>(view.block_stride);
  memory.layout.plane_stride = static_cast<int64_t>(view.plane_stride);
  memory.layout.head_stride = static_cast<int64_t>(view.head_stride);
  memory.layout.token_stride = static_cast<int64_t>(view.token_stride);
  memory.layer_base.assign(cache.layers().begin(), cache.layers().end());
  memory.blocks = view.blocks;
  return memory;
}

}  // namespace baton::reference
