// What the engine wants of a handoff: the sessions of connectors/, behind an interface, so that
// an engine without a node has none of it and tests can put a handoff into any state.
//
// Threads: as connectors/prefill_session.h and decode_session.h say: one engine thread calls,
// callbacks come on the node's thread and must not call back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transfer/base/address.h"
#include "transfer/base/ids.h"
#include "transfer/base/status.h"
#include "transfer/handoff_report.h"
#include "transfer/protocol/receiver_handoff.h"

namespace baton::reference {

enum class TransferRole : uint8_t { kPrefill, kDecode };

// kv_transfer_params.baton of a request.
struct TransferParams {
  HandoffAttempt handoff;
  TransferRole role = TransferRole::kDecode;
  protocol::Flow flow = protocol::Flow::kPush;
  std::vector<HostPort> peer;  // role prefill: empty means that a decoder will fetch later
  std::string salt;
  // Of this node's own tiers, without a peer: what is computed is kept there, and held for nobody.
  bool keep = false;
};

class PrefillTransfer {
 public:
  virtual ~PrefillTransfer() = default;
  // The KV of the first `cached_tokens` is in the blocks already.
  virtual void begin(std::span<const uint32_t> blocks, uint32_t cached_tokens) = 0;
  virtual void layer_ready(uint32_t layer, uint32_t tokens) = 0;
  virtual void finish() = 0;
  virtual void abort(const std::string& why) = 0;
  virtual HandoffReport report() const = 0;
};

class DecodeTransfer {
 public:
  using State = LoadState;
  using Poll = LoadProgress;
  virtual ~DecodeTransfer() = default;
  virtual Poll poll() const = 0;
  virtual void accept(std::span<const uint32_t> blocks) = 0;
  virtual void refuse(const std::string& why) = 0;
  virtual void done() = 0;
  virtual void abort(const std::string& why) = 0;
  virtual HandoffReport report() const = 0;
};

class KvTransfers {
 public:
  using Callback = std::function<void()>;
  virtual ~KvTransfers() = default;
  // Errors: those of the sessions' create(); then no callback is ever called.
  virtual Result<std::unique_ptr<PrefillTransfer>> prefill(const TransferParams& params,
                                                           const std::vector<uint32_t>& prompt,
                                                           Duration budget,
                                                           Callback on_released) = 0;
  virtual Result<std::unique_ptr<DecodeTransfer>> decode(const TransferParams& params,
                                                         const std::vector<uint32_t>& prompt,
                                                         Duration budget, Callback on_change,
                                                         Callback on_released) = 0;
};

}  // namespace baton::reference
