// How two nodes prove to each other on a control connection that they have the same token.
//
// Each HELLO carries a random challenge. A proof is an HMAC under the token over the prover's role
// (who dialled, who accepted), its own HELLO and the peer's, both as they were sent. So it holds
// for this connection and these two HELLOs alone: nothing of them (node, incarnation, nonce, ports,
// fingerprint) can be changed on the way, an older proof fits no fresh challenge, and what one side
// proved is no proof of the other. The side that was dialled proves after the other one has, so
// that whoever only knocks learns nothing that was computed from the token.
//
// What this does not do: encrypt, or protect the frames that follow from somebody who sits on the
// path between the two.
//
// Pure functions, thread-safe.
#pragma once

#include "transfer/base/token.h"
#include "transfer/protocol/messages.h"

namespace baton::control {

enum class AuthRole : uint8_t { kDialler, kAcceptor };

// What the side in this role sends as AUTH. HELLOs that cannot be encoded prove nothing: zeros.
protocol::Auth prove(const Token& token, AuthRole prover, const protocol::Hello& provers,
                     const protocol::Hello& verifiers);

bool verify(const protocol::Auth& auth, const Token& token, AuthRole prover,
            const protocol::Hello& provers, const protocol::Hello& verifiers);

// Known to both sides of this connection and to nobody without the token; the same on both.
Digest session_key(const Token& token, const protocol::Hello& diallers,
                   const protocol::Hello& acceptors);

}  // namespace baton::control
