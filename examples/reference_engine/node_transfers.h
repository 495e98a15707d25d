// The engine's handoffs over a Baton node: connectors/'s sessions as a KvTransfers, and the node
// that fits an engine.
#pragma once

#include <memory>

#include "examples/reference_engine/kv_cache.h"
#include "examples/reference_engine/kv_transfer.h"
#include "examples/reference_engine/model.h"
#include "transfer/node.h"

namespace baton::reference {

// The node outlives it.
std::unique_ptr<KvTransfers> make_node_transfers(Node& node);

// What must be equal on both ends for KV to mean the same.
Fingerprint fingerprint_of(const Model& model);
// The cache's memory as a node sees it.
KvMemory kv_memory_of(const KvCache& cache, const LlamaConfig& config);

}  // namespace baton::reference
