#include "connectors/prefill_session.h"

#include "transfer/node_impl.h"

namespace baton {

PrefillSession::PrefillSession(std::shared_ptr<SendFeed> feed) : feed_(std::move(feed)) {}

PrefillSession::~PrefillSession() { feed_->abort("the session was dropped"); }

Result<std::unique_ptr<PrefillSession>> PrefillSession::create(Node& node, PrefillRequest request,
                                                               std::function<void()> on_released) {
  const NodeConfig& config = node.config();
  if (request.tokens.empty() || request.tokens.size() / config.chunk_tokens >= protocol::kMaxChunks)
    return Status(Code::kInvalidArgument,
                  "the prompt has " + std::to_string(request.tokens.size()) +
                      " tokens: expected 1 to " +
                      std::to_string(uint64_t{protocol::kMaxChunks} * config.chunk_tokens));
  if (request.peer.empty() && config.mode == SendMode::kTransient)
    return Status(Code::kInvalidArgument,
                  "a prefill without a peer is held for a FETCH, which needs retained mode");
  if (request.peer.size() > 1)
    return Status(Code::kInvalidArgument, "the peer has " + std::to_string(request.peer.size()) +
                                              " ranks: expected 1, as this node");
  SendRequest send{.handoff = request.handoff,
                   .deadline = now() + request.budget,
                   .tokens = static_cast<uint32_t>(request.tokens.size()),
                   .keys = key_chain(root_key(config.fingerprint, request.adapter, request.salt),
                                     request.tokens, config.chunk_tokens),
                   .tenant = tenant_of(request.salt),
                   .with_peer = !request.peer.empty(),
                   .lease = request.lease.value_or(config.lease)};
  const HandoffRole role = send.with_peer ? HandoffRole::kSender : HandoffRole::kHolder;
  auto feed = std::make_shared<SendFeed>(
      static_cast<uint32_t>(config.kv.layer_base.size()),
      [&impl = node.impl(), handoff = request.handoff, role] { impl.wake(role, handoff); });
  BATON_RETURN_IF_ERROR(node.impl().start_sending(std::move(send), std::move(request.peer), feed,
                                                  std::move(on_released)));
  return std::unique_ptr<PrefillSession>(new PrefillSession(std::move(feed)));
}

void PrefillSession::begin(std::span<const uint32_t> blocks, uint32_t cached_tokens) {
  feed_->begin(blocks, cached_tokens);
}
void PrefillSession::extend(std::span<const uint32_t> blocks) { feed_->extend(blocks); }
void PrefillSession::layer_ready(uint32_t layer, uint32_t tokens) {
  feed_->layer_ready(layer, tokens);
}
void PrefillSession::finish() { feed_->finish(); }
void PrefillSession::abort(const std::string& why) { feed_->abort(why); }
void PrefillSession::revoke(const std::string& why) { feed_->revoke(why); }
HandoffReport PrefillSession::report() const { return feed_->report(); }

}  // namespace baton
