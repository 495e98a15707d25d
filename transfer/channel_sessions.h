// What binds a channel to the control connection on which its peer was let in.
//
// Without TLS, HELLO is said to everybody who connects, so the nonce that it shows lets nobody in
// by itself. Where a token is set, or TLS is used, every greeting of a channel carries a proof: an
// HMAC under the key of the control connection's session (control::Peer::session_key). It holds for
// one session, one direction and one kind of channel; overheard, it opens nothing once the control
// connection is another.
//
// Confined to the progress thread.
#pragma once

#include <optional>
#include <string_view>
#include <unordered_map>

#include "transfer/base/ids.h"
#include "transfer/base/token.h"

namespace baton {

// Zeros where there is neither token nor TLS.
using ChannelProof = Digest;

class ChannelSessions {
 public:
  // A peer was let in, or is gone. A life has one session at a time: the last that began.
  void begin(Incarnation peer, const Digest& key) { keys_[peer.value] = key; }
  void end(Incarnation peer) { keys_.erase(peer.value); }

  // The proof of `from` towards `to`, whose HELLO showed `nonce`, in the session with `peer` (one
  // of the two). `label` says which kind of channel and which role. Nothing where there is no
  // session.
  std::optional<ChannelProof> proof(Incarnation peer, std::string_view label, uint64_t nonce,
                                    Incarnation from, Incarnation to) const;

 private:
  std::unordered_map<uint64_t, Digest> keys_;  // by the peer's incarnation
};

}  // namespace baton
