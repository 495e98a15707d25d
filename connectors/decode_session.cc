#include "connectors/decode_session.h"

#include "transfer/node_impl.h"

namespace baton {
DecodeSession::DecodeSession(std::shared_ptr<ReceiveFeed> feed) : feed_(std::move(feed)) {}

DecodeSession::~DecodeSession() { feed_->abort("the session was dropped"); }

Result<std::unique_ptr<DecodeSession>> DecodeSession::create(Node& node, DecodeRequest request,
                                                             std::function<void()> on_change,
                                                             std::function<void()> on_released) {
  const NodeConfig& config = node.config();
  if (request.tokens.empty() || request.tokens.size() / config.chunk_tokens >= protocol::kMaxChunks)
    return Status(Code::kInvalidArgument,
                  "the prompt has " + std::to_string(request.tokens.size()) +
                      " tokens: expected 1 to " +
                      std::to_string(uint64_t{protocol::kMaxChunks} * config.chunk_tokens));
  if (request.peer.size() > 1)
    return Status(Code::kInvalidArgument, "the peer has " + std::to_string(request.peer.size()) +
                                              " ranks: expected 1, as this node");
  ReceiveRequest receive{
      .handoff = request.handoff,
      .flow = request.flow,
      .deadline = now() + request.budget,
      .tokens = static_cast<uint32_t>(request.tokens.size()),
      .keys = key_chain(root_key(config.fingerprint, request.adapter, request.salt), request.tokens,
                        config.chunk_tokens),
      .tenant = tenant_of(request.salt),
      .from = request.peer.empty() ? "" : request.peer.front().to_string()};
  auto feed = std::make_shared<ReceiveFeed>(
      static_cast<uint32_t>(config.kv.layer_base.size()),
      [&impl = node.impl(), handoff = request.handoff] {
        impl.wake(HandoffRole::kReceiver, handoff);
      },
      std::move(on_change));
  BATON_RETURN_IF_ERROR(node.impl().start_receiving(std::move(receive), std::move(request.peer),
                                                    feed, std::move(on_released)));
  return std::unique_ptr<DecodeSession>(new DecodeSession(std::move(feed)));
}

DecodeSession::Poll DecodeSession::poll() const { return feed_->view(); }
void DecodeSession::accept(std::span<const uint32_t> blocks, uint32_t held_tokens) {
  feed_->accept(blocks, held_tokens);
}
void DecodeSession::refuse(const std::string& why) { feed_->refuse(why); }
Status DecodeSession::wait_layer(uint32_t layer, Duration deadline) {
  return feed_->wait_layer(layer, now() + deadline);
}
void DecodeSession::done() { feed_->abort("the engine is done"); }
void DecodeSession::abort(const std::string& why) { feed_->abort(why); }
HandoffReport DecodeSession::report() const { return feed_->report(); }

}  // namespace baton
