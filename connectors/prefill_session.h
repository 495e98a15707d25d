// The prefiller's side of one handoff, as an engine uses it.
//
//   create()      the request is queued in the engine             → the peer hears QUEUED
//   begin()       its first prefill step is scheduled             → OFFER
//   extend()      further blocks were given to it (chunked prefill)
//   layer_ready() per layer and step, as soon as the layer's KV is written
//   finish()      the prompt is prefilled; no further layer_ready
//   on_released   the engine may free or reuse the blocks
//
// Nothing here waits: segments leave on the node's progress thread, and compute never waits for a
// transfer. Whatever becomes of the handoff, the engine goes on computing; it learns the end from
// report().
//
// The node outlives its sessions.
//
// Threads: create, begin, extend, layer_ready, finish, abort and revoke are called by one engine
// thread at a time (any; externally synchronised). on_released runs once on the progress thread: it
// must not block or call back into the session; typically it posts the block ids to the engine's
// own queue. report() is thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "transfer/base/address.h"
#include "transfer/base/ids.h"
#include "transfer/handoff_report.h"
#include "transfer/node.h"

namespace baton {

class SendFeed;

struct PrefillRequest {
  HandoffAttempt handoff;
  std::vector<HostPort> peer;  // the decoder's node; empty: nobody yet (two-step flow): the
                               // chunks are only retained, for a FETCH
  Duration budget = std::chrono::seconds(30);
  // Without a peer: how long the chunks are held for a FETCH, from when they are whole. Unset: as
  // the node's option says. Zero: not at all, they are kept as long as the host tier has room.
  std::optional<Duration> lease;
  std::vector<uint32_t> tokens;  // the whole prompt
  std::string salt;
  std::string adapter;
};

class PrefillSession {
 public:
  // Errors: kInvalidArgument (no tokens, too many, transient mode without a peer),
  // kResourceExhausted (max_handoffs), kExists (this attempt runs already), kRefused (it has ended
  // already; names how), kUnavailable (stopping). On an error on_released is never called.
  static Result<std::unique_ptr<PrefillSession>> create(Node& node, PrefillRequest request,
                                                        std::function<void()> on_released);
  // Without finish(): aborts. on_released still comes.
  ~PrefillSession();

  // Block ids are below KvMemory::blocks, and the table has at most tokens / block_tokens + 2 of
  // them, extend()'s included; else the handoff fails. `blocks` may grow later (extend). The KV of
  // the first `cached_tokens` is in them already.
  void begin(std::span<const uint32_t> blocks, uint32_t cached_tokens);
  // Appends block ids to the table.
  void extend(std::span<const uint32_t> blocks);
  // The KV of tokens [0, tokens) of `layer` is written and will not change. Never decreases.
  void layer_ready(uint32_t layer, uint32_t tokens);
  void finish();
  void abort(const std::string& why);
  // The engine must have its blocks back, after finish() too: a handoff that still needs them ends.
  // on_released comes as soon as what is being copied out of them is done.
  void revoke(const std::string& why);

  HandoffReport report() const;

 private:
  explicit PrefillSession(std::shared_ptr<SendFeed> feed);
  const std::shared_ptr<SendFeed> feed_;
};

}  // namespace baton
