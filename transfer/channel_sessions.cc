#include "transfer/channel_sessions.h"

#include <vector>

#include "transfer/channel_endpoint.h"

namespace baton {

std::optional<ChannelProof> ChannelSessions::proof(Incarnation peer, std::string_view label,
                                                   uint64_t nonce, Incarnation from,
                                                   Incarnation to) const {
  const auto key = keys_.find(peer.value);
  if (key == keys_.end()) return std::nullopt;
  std::vector<std::byte> message;
  for (const char c : label) message.push_back(static_cast<std::byte>(c));
  message.push_back(std::byte{0});
  for (const uint64_t number : {nonce, from.value, to.value}) {
    for (int i = 0; i < 8; ++i) message.push_back(static_cast<std::byte>(number >> (8 * i) & 0xff));
  }
  return hmac_sha256(std::as_bytes(std::span(key->second)), message);
}

ChannelProof ChannelIdentity::prove(std::string_view label, const protocol::Hello& to) const {
  if (!sessions) return {};
  return sessions->proof(to.incarnation, label, to.channel_nonce, self, to.incarnation)
      .value_or(ChannelProof{});
}

bool ChannelIdentity::verify(const ChannelProof& proof, std::string_view label,
                             Incarnation from) const {
  if (!sessions) return equal_in_constant_time(proof, ChannelProof{});
  const auto expected = sessions->proof(from, label, nonce, from, self);
  return expected && equal_in_constant_time(proof, *expected);
}

}  // namespace baton
