// The decoder's side of one handoff, as an engine uses it.
//
//   create()   the request arrived; in the fetch flow the holder is asked, in the push flow the
//              session waits for the prefiller
//   poll()     kWaiting: "later", pin no blocks; kOffered: `tokens` leading tokens can be had:
//              allocate blocks for these at least and accept(), or refuse(); kLoading: bytes are
//              coming; kLoaded: the KV of `tokens` leading tokens is in the blocks; kFailed:
//              compute the prompt yourself
//   wait_layer() for engines that load layer by layer: blocks until a layer is verified
//   done()     the engine needs the session no more (after kLoaded)
//   abort()    in any state; the blocks are the engine's again when on_released has run
//
// kLoaded and kFailed are reported only when nothing writes to the blocks any more: no further
// waiting is needed before the engine computes into them. Beyond the tokens that were loaded they
// hold anything, NaNs too: an engine whose attention reads a whole block and weighs what lies
// behind the last token with zero clears it first.
//
// The node outlives its sessions.
//
// Threads: create, accept, refuse, done, abort, poll are called by one engine thread at a time
// (any; externally synchronised); wait_layer by any thread. on_change and on_released run on the
// progress thread and must not block or call back into the session.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transfer/base/address.h"
#include "transfer/base/ids.h"
#include "transfer/handoff_report.h"
#include "transfer/node.h"

namespace baton {

class ReceiveFeed;

struct DecodeRequest {
  HandoffAttempt handoff;
  protocol::Flow flow = protocol::Flow::kPush;
  // fetch: the holder's node; empty: this node's own host tier, and nobody else is asked. push: not
  // dialled, the sender comes.
  std::vector<HostPort> peer;
  Duration budget = std::chrono::seconds(30);
  std::vector<uint32_t> tokens;  // the whole prompt, from the decoder's own tokenizer
  std::string salt;
  std::string adapter;
};

class DecodeSession {
 public:
  using State = LoadState;
  using Poll = LoadProgress;

  // on_change: poll() would say something new. on_released: called once after abort(), done() or
  // destruction, when nothing of this session touches the blocks.
  // Errors: kInvalidArgument, kResourceExhausted, kExists, kRefused (a tombstone: this attempt has
  // ended), kUnavailable. On an error neither callback is ever called.
  static Result<std::unique_ptr<DecodeSession>> create(Node& node, DecodeRequest request,
                                                       std::function<void()> on_change,
                                                       std::function<void()> on_released);
  // Aborts unless done().
  ~DecodeSession();

  Poll poll() const;
  // After kOffered: the blocks of the prompt, in order, with room for what is offered at least, and
  // how many leading tokens of it the engine holds in them already.
  void accept(std::span<const uint32_t> blocks, uint32_t held_tokens);
  // After kOffered: the engine has no room for it. The session then fails with this reason.
  void refuse(const std::string& why);
  // Returns when all chunks of the layer are verified in the blocks, or an error when the handoff
  // ends otherwise or the deadline passes. What a later layer does can still fail the whole.
  Status wait_layer(uint32_t layer, Duration deadline);
  void done();
  void abort(const std::string& why);

  HandoffReport report() const;

 private:
  explicit DecodeSession(std::shared_ptr<ReceiveFeed> feed);
  const std::shared_ptr<ReceiveFeed> feed_;
};

}  // namespace baton
