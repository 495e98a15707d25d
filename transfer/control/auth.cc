#include "transfer/control/auth.h"

#include <string_view>
#include <vector>

#include "transfer/protocol/codec.h"

namespace baton::control {
namespace {

using protocol::Hello;

// HMAC(token, label ‖ 0 ‖ SHA-256 of the one HELLO's frame ‖ SHA-256 of the other's); a frame has
// one encoding, so what is encoded here is what was sent.
Result<Digest> over_both(const Token& token, std::string_view label, const Hello& one,
                         const Hello& other) {
  std::vector<std::byte> message;
  for (const char c : label) message.push_back(static_cast<std::byte>(c));
  message.push_back(std::byte{0});
  for (const Hello* hello : {&one, &other}) {
    BATON_ASSIGN_OR_RETURN(const std::vector<std::byte> frame, protocol::encode(*hello));
    for (const uint8_t byte : sha256(frame)) message.push_back(static_cast<std::byte>(byte));
  }
  return token.hmac(message);
}

std::string_view label_of(AuthRole role) {
  return role == AuthRole::kDialler ? "baton control dialler" : "baton control acceptor";
}

}  // namespace

protocol::Auth prove(const Token& token, AuthRole prover, const Hello& provers,
                     const Hello& verifiers) {
  const auto proof = over_both(token, label_of(prover), provers, verifiers);
  return {.proof = proof.ok() ? *proof : Digest{}};
}

bool verify(const protocol::Auth& auth, const Token& token, AuthRole prover, const Hello& provers,
            const Hello& verifiers) {
  const auto expected = over_both(token, label_of(prover), provers, verifiers);
  return expected.ok() && equal_in_constant_time(auth.proof, *expected);
}

Digest session_key(const Token& token, const Hello& diallers, const Hello& acceptors) {
  const auto key = over_both(token, "baton session", diallers, acceptors);
  BATON_CHECK(key.ok(), "a session begins after both HELLOs were proven");
  return *key;
}

}  // namespace baton::control
