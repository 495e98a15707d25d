#include "tests/transfer/protocol/random_messages.h"

#include <algorithm>

namespace baton::protocol {
namespace {

class Source {
 public:
  explicit Source(std::mt19937_64& random) : random_(random) {}

  uint64_t below(uint64_t bound) { return random_() % bound; }
  uint64_t any() { return random_() >> below(64); }  // of any length
  template <typename T>
  void fill(T& value) {
    value = static_cast<T>(any());
  }
  void fill(bool& value) { value = below(2) == 1; }
  std::string text(uint32_t bound) {
    std::string text(below(4) == 0 ? below(bound + 1) : below(9), '\0');
    for (char& c : text) c = static_cast<char>(any());
    return text;
  }
  HandoffAttempt handoff() {
    HandoffAttempt handoff;
    for (uint8_t& byte : handoff.id.bytes) fill(byte);
    fill(handoff.attempt);
    return handoff;
  }
  std::vector<ChunkKey> keys(size_t count) {
    std::vector<ChunkKey> keys(count);
    for (ChunkKey& key : keys) {
      for (uint8_t& byte : key.bytes) fill(byte);
    }
    return keys;
  }
  std::vector<bool> bits(size_t count) {
    std::vector<bool> bits(count);
    for (size_t i = 0; i < count; ++i) bits[i] = below(2) == 1;
    return bits;
  }

 private:
  std::mt19937_64& random_;
};

Hello random_hello(Source& s) {
  Hello m;
  s.fill(m.version);
  m.node = s.text(kMaxText);
  s.fill(m.incarnation.value);
  m.fingerprint = {.model = s.text(kMaxText), .dtype = s.text(kMaxText)};
  s.fill(m.fingerprint.layers);
  s.fill(m.fingerprint.planes);
  s.fill(m.fingerprint.kv_heads);
  s.fill(m.fingerprint.head_dim);
  m.fingerprint.rope = s.text(kMaxText);
  m.fingerprint.opaque_layout = s.text(kMaxText);
  s.fill(m.chunk_tokens);
  s.fill(m.store);
  s.fill(m.chunk_bytes);
  s.fill(m.opaque_block_bytes);
  s.fill(m.opaque_block_tokens);
  m.local_socket = s.text(107);
  s.fill(m.channel_nonce);
  s.fill(m.tcp_port);
  m.ucx_address = s.text(kMaxUcxAddress);
  m.ucx_transports = s.text(kMaxText);
  s.fill(m.has_token);
  for (uint8_t& byte : m.challenge) s.fill(byte);
  return m;
}

Offer random_offer(Source& s) {
  Offer m{.handoff = s.handoff()};
  m.chunk_tokens = static_cast<uint32_t>(8 * (1 + s.below(64)));
  m.tokens = static_cast<uint32_t>(1 + s.below(20 * m.chunk_tokens));
  s.fill(m.retained);
  s.fill(m.tenant);
  const uint64_t groups = 1 + s.below(4);
  for (uint64_t i = 0; i < groups; ++i) {
    GroupOffer group{.kv_group = static_cast<uint16_t>(i)};
    s.fill(group.head_group);
    group.layers = static_cast<uint16_t>(1 + s.below(kMaxLayers));
    group.token_bytes = static_cast<uint32_t>(1 + s.below(1u << 20));
    group.order = static_cast<PayloadOrder>(1 + s.below(3));
    if (group.order == PayloadOrder::kOpaque) group.opaque_block_tokens = 1u << s.below(4);
    m.groups.push_back(group);
  }
  m.keys = s.keys((m.tokens + m.chunk_tokens - 1) / m.chunk_tokens);
  return m;
}

Ack random_ack(Source& s) {
  Ack m{.handoff = s.handoff(), .first_word = static_cast<uint32_t>(s.below(kMaxSegments / 64))};
  m.words.resize(s.below(std::min<uint64_t>(20, kMaxSegments / 64 - m.first_word) + 1));
  for (uint64_t& word : m.words) s.fill(word);
  return m;
}

Resend random_resend(Source& s) {
  Resend m{.handoff = s.handoff()};
  m.segments.resize(s.below(50));
  for (uint32_t& segment : m.segments) segment = static_cast<uint32_t>(s.below(kMaxSegments));
  return m;
}

Fetch random_fetch(Source& s) {
  Fetch m{.handoff = s.handoff(), .tokens = static_cast<uint32_t>(30 + s.below(1000))};
  s.fill(m.tenant);
  m.keys = s.keys(1 + s.below(30));
  s.fill(m.budget_ms);
  return m;
}

Accept random_accept(Source& s) {
  Accept m{.handoff = s.handoff()};
  s.fill(m.held_tokens);
  m.held_chunks = s.bits(s.below(70));
  s.fill(m.window_bytes);
  return m;
}

}  // namespace

Message random_message(size_t type, std::mt19937_64& random) {
  Source s(random);
  switch (type) {
    case 0:
      return random_hello(s);
    case 1:
      return Queued{s.handoff()};
    case 2:
      return random_offer(s);
    case 3:
      return random_accept(s);
    case 4:
      return Refuse{s.handoff(), static_cast<RefuseReason>(1 + s.below(15)), s.text(kMaxText)};
    case 5:
      return Sent{s.handoff(), s.below(kMaxSegments + 1), s.below(2) == 1, s.any(), s.any()};
    case 6:
      return random_ack(s);
    case 7:
      return random_resend(s);
    case 8:
      return Commit{s.handoff()};
    case 9:
      return Failed{s.handoff(), static_cast<Code>(1 + s.below(11)), s.text(kMaxText)};
    case 10:
      return Cancel{s.handoff(), s.text(kMaxText)};
    case 11:
      return Drained{s.handoff()};
    case 12:
      return random_fetch(s);
    case 13:
      return Miss{s.handoff()};
    case 14:
      return Heartbeat{s.any()};
    case 15: {
      Auth m;
      for (uint8_t& byte : m.proof) s.fill(byte);
      return m;
    }
    case 16: {
      Lookup m{.question = s.any(), .keys = s.keys(s.below(30))};
      s.fill(m.tenant);
      s.fill(m.kv_group);
      s.fill(m.head_group);
      s.fill(m.budget_ms);
      return m;
    }
    default:
      return Found{s.any(), s.bits(s.below(70))};
  }
}

}  // namespace baton::protocol
