// What the parts of a node share. Internal to transfer/; confined to the progress thread unless a
// member says otherwise.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

#include "kernels/checksum.h"
#include "transfer/chunk.h"
#include "transfer/copier.h"
#include "transfer/handoff_registry.h"
#include "transfer/node.h"
#include "transfer/node_metrics.h"
#include "transfer/tiers/host_tier.h"
#include "transfer/tiers/tiers.h"
#include "transfer/timeline.h"

namespace baton {

struct NodeCore {
  explicit NodeCore(NodeConfig node_config)
      : config(std::move(node_config)),
        fingerprint(digest(config.fingerprint)),
        node_metrics(metrics),
        registry(config.max_handoffs, config.tombstone_ttl) {}

  const NodeConfig config;              // constant
  const FingerprintDigest fingerprint;  // of config's; constant
  Metrics metrics;                      // thread-safe
  NodeMetrics node_metrics;             // thread-safe
  HandoffRegistry registry;             // thread-safe
  boost::asio::io_context io{1};
  std::unique_ptr<Copier> copier;
  std::unique_ptr<Copier> slot_copier;  // between host memory and slots
  std::shared_ptr<SlotPool> retained;   // null: nothing is retained
  bool slots_are_cut = true;            // false: a store that waits for its first peer
  std::shared_ptr<SlotPool> transit;
  std::unique_ptr<HostTier> tier;
  std::unique_ptr<Tiers> tiers;  // the host tier and those below it

  // How this node's KV is offered and read: one KV group, one head group.
  protocol::GroupOffer group() const {
    const KvLayout& layout = config.kv.layout;
    const bool opaque = layout.opaque_block_bytes != 0;
    return {.kv_group = 0,
            .head_group = 0,
            .layers = static_cast<uint16_t>(config.kv.layer_base.size()),
            .order = natural_order(layout),
            .token_bytes = static_cast<uint32_t>(opaque ? layout.opaque_block_bytes
                                                        : segment_bytes(layout, 1)),
            .opaque_block_tokens = opaque ? layout.block_tokens : 0};
  }

  // Tokens [first, first + tokens) of a sequence in one layer of the engine's blocks; `blocks` is
  // the sequence's table, `first` a multiple of block_tokens.
  KvSegment segment(uint32_t layer, const std::vector<uint32_t>& blocks, uint32_t first,
                    uint32_t tokens) const {
    return {config.kv.layer_base[layer], config.kv.layout,
            blocks.data() + first / config.kv.layout.block_tokens, tokens};
  }

  ChunkOrigin origin(TenantId tenant) const { return {fingerprint, tenant}; }

  struct RetainedSlot {
    SlotRef slot;
    HostTier::Reservation reservation;  // until the chunk is in the tier
  };
  // For a chunk that is to be retained; another may have to leave the tier for it.
  std::optional<RetainedSlot> retained_slot(TenantId tenant) const {
    if (retained == nullptr) return std::nullopt;
    tier->expire(now());
    const size_t bytes = retained->slot_bytes();
    // Who has his quota makes room by himself, also where slots are free.
    if (!tier->make_room(tenant, bytes)) return std::nullopt;
    std::optional<SlotRef> slot = retained->allocate();
    if (!slot && tier->evict(1) != 0) slot = retained->allocate();
    if (!slot) return std::nullopt;
    return RetainedSlot{std::move(*slot), tier->reserve(tenant, bytes)};
  }

  // Makes a whole, verified chunk visible, here and in the tiers below; not where what the node
  // keeps has got another meaning since the chunk was begun, when Tiers::forgotten() was `begun`.
  // Returns whether the tier has the chunk in this very slot.
  bool keep(const Chunk& chunk, uint64_t begun) {
    if (tiers->forgotten() != begun) return false;
    const Status kept = tier->insert(chunk);
    if (kept.ok()) tiers->keep(chunk.id);
    if (!kept.ok() && kept.code() != Code::kExists) node_metrics.retain_skipped();
    return kept.ok();
  }

  // Until now.
  void record(TimelineEvent::Stage stage, const HandoffAttempt& handoff, uint32_t chunk,
              uint32_t layer, uint64_t bytes, TimePoint begin) const {
    if (config.timeline != nullptr)
      config.timeline->add({stage, handoff, chunk, layer, bytes, begin, now()});
  }
};

}  // namespace baton
