// One request inside the engine: its tokens, its blocks, its place in life.
//
// A request that looks into its own node's tiers first waits in kAwaiting for their answer.
//
//              kQueued ──────────── room ───────────────┐
//                 ▲  ▲ failed, refused                  ▼
//   kAwaiting ────┼──┘                               kRunning ──> kReleasing ──> gone
//       │ offer   │                                     ▲  │          ▲
//       ▼         └── failed ─┐        preempted: ──────┼──┘          │
//    kOffered ── room ──> kLoading ────── loaded ───────┘   (kQueued) │
//                                                        kPublishing ─┘
//
// Only kLoading, kRunning, kPublishing and kReleasing hold blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "examples/reference_engine/generation.h"

namespace baton::reference {

enum class Phase : uint8_t {
  kQueued,      // wants blocks, to compute
  kAwaiting,    // the prefiller has not begun: pins nothing
  kOffered,     // wants blocks, to be loaded into
  kLoading,     // its KV is coming
  kRunning,     // computes
  kPublishing,  // computed; answers once all of it can be fetched (two-step flow)
  kReleasing,   // answered; a transfer still uses its blocks
};

struct Sequence {
  uint64_t id = 0;  // in the order of arrival
  GenerationRequest request;
  std::unique_ptr<GenerationSink> sink;
  Phase phase = Phase::kQueued;

  std::vector<uint32_t> tokens;  // prompt and generated
  uint32_t computed = 0;         // leading tokens whose KV is in `blocks`
  std::vector<uint32_t> blocks;
  uint32_t prompt_tokens_computed = 0;
  uint32_t preemptions = 0;
  Finish finish = Finish::kLength;  // kPublishing: what the answer will say

  std::unique_ptr<PrefillTransfer> prefill;
  std::unique_ptr<DecodeTransfer> decode;
  bool own_load = false;  // `decode` asks this node's own tiers
  bool prefill_begun = false;
  bool prefill_open = false;  // begun, neither finished nor aborted
  uint32_t users = 0;         // transfers that may still use the blocks

  TimePoint arrived, admitted, first_token;

  uint32_t prompt_tokens() const { return static_cast<uint32_t>(request.prompt.size()); }
  uint32_t known() const { return static_cast<uint32_t>(tokens.size()); }
  bool released() const { return users == 0; }
  // `prefill` is for whoever decodes, not for this node's own tiers.
  bool prefills_for_handoff() const {
    return prefill && request.transfer && request.transfer->role == TransferRole::kPrefill;
  }
  uint32_t generated() const { return known() - prompt_tokens(); }
  bool waits() const {
    return phase == Phase::kQueued || phase == Phase::kAwaiting || phase == Phase::kOffered;
  }
};

}  // namespace baton::reference
