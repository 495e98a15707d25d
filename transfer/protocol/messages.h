// The messages of the control connection, as plain values. Wire format: codec.h. Who sends which
// in which state: sender_handoff.h and receiver_handoff.h; the picture is in transfer/DESIGN.md.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "kernels/kv_layout.h"
#include "transfer/base/ids.h"
#include "transfer/chunk_key.h"

namespace baton::protocol {

inline constexpr uint16_t kVersion = 2;

// Bounds that the codec enforces in both directions.
inline constexpr uint32_t kMaxFrameBytes = 4u << 20;
inline constexpr uint32_t kMaxChunks = 65'536;      // of one handoff, of one LOOKUP
inline constexpr uint32_t kMaxLayers = 1'024;       // of one KV group
inline constexpr uint32_t kMaxGroups = 64;          // KV groups × head groups of one handoff
inline constexpr uint32_t kMaxSegments = 8u << 20;  // of one handoff
inline constexpr uint32_t kMaxResend = 65'536;      // segments named by one RESEND
inline constexpr uint64_t kMaxSegmentBytes = 1u << 30;
inline constexpr uint32_t kMaxText = 1'024;  // bytes of any text field
inline constexpr uint32_t kMaxUcxAddress = 8'192;

// First message of either side. A side that cannot agree answers REFUSE with a zero handoff id.
struct Hello {
  uint16_t version = kVersion;
  std::string node;         // the sender's node address, "host:port"
  Incarnation incarnation;  // of the sender's life
  // A node without an engine keeps chunks of any model; then what follows, up to the blocks, says
  // nothing.
  bool store = false;
  uint64_t chunk_bytes = 0;  // of a whole chunk, all layers
  Fingerprint fingerprint;
  uint32_t chunk_tokens = 0;
  // Opaque blocks move only between equal blocks; zero where strides describe the layout.
  uint64_t opaque_block_bytes = 0;
  uint32_t opaque_block_tokens = 0;
  std::string local_socket;    // abstract Unix socket of the local channel, without the leading NUL
  uint64_t channel_nonce = 0;  // whoever opens a channel to the sender shows this number
  uint16_t tcp_port = 0;       // of the tcp channel, at the host of `node`; 0: none
  std::string ucx_address;     // of the ucx channel: its port, at the host of `node`; empty: none
  std::string ucx_transports;  // what it would use between hosts, as UCX names it: "rc_mlx5,tcp"
  bool has_token = false;      // then AUTH follows, from both sides
  std::array<uint8_t, 32> challenge{};  // random, of this connection alone
  bool operator==(const Hello&) const = default;
};

// The request waits in the prefiller's engine.
struct Queued {
  HandoffAttempt handoff;
  bool operator==(const Queued&) const = default;
};

// One (KV group, head group) of an offer. All chunks of the offer exist in each group.
struct GroupOffer {
  uint16_t kv_group = 0;
  uint16_t head_group = 0;
  uint16_t layers = 0;
  PayloadOrder order = PayloadOrder::kTokenHead;
  uint32_t token_bytes = 0;  // payload bytes of one token in one layer; opaque: of one block
  uint32_t opaque_block_tokens = 0;  // opaque: tokens of one block; else 0
  bool operator==(const GroupOffer&) const = default;
};

struct Offer {
  HandoffAttempt handoff;
  uint32_t tokens = 0;  // covered by the offer; the last chunk may be a tail chunk
  uint32_t chunk_tokens = 0;
  bool retained = false;
  TenantId tenant = 0;  // whose they are, where the receiver keeps them
  std::vector<GroupOffer> groups;
  std::vector<ChunkKey> keys;  // ceil(tokens / chunk_tokens)
  bool operator==(const Offer&) const = default;
};

struct Accept {
  HandoffAttempt handoff;
  uint32_t held_tokens = 0;       // leading tokens that the receiver's engine holds itself
  std::vector<bool> held_chunks;  // one a chunk: held (and pinned) in the receiver's host tier
  uint64_t window_bytes = 0;      // unacknowledged bytes that this handoff may always have
  bool operator==(const Accept&) const = default;
};

enum class RefuseReason : uint8_t {
  kVersion = 1,
  kFingerprint,
  kChunkTokens,
  kLayout,
  kKeys,
  kNoRoom,
  kExpired,
  kCancelled,
  kUnknownHandoff,
  kDuplicate,
  kNoChannel,
  kIncarnation,
  kShutdown,
  kLimit,
  kAuthentication,
};
const char* refuse_reason_name(RefuseReason reason);

// A zero handoff id refuses the connection. The text names both values where two differ.
struct Refuse {
  HandoffAttempt handoff;
  RefuseReason reason = RefuseReason::kNoRoom;
  std::string text;
  bool operator==(const Refuse&) const = default;
};

// Hint: so many different segments were published since the offer (one published again counts
// once); `all` once that is every segment that the receiver needs. Never decreases.
struct Sent {
  HandoffAttempt handoff;
  uint64_t segments = 0;
  bool all = false;
  // With `all`, for the receiver's estimate; 0: unknown.
  uint64_t compute_us = 0;  // the engine's, from OFFER to the last layer
  uint64_t goodput = 0;     // best payload rate seen lately towards this receiver, bytes a second
  bool operator==(const Sent&) const = default;
};

// Verified segments: bit i of words[j] stands for segment first_word*64 + j*64 + i. Bits that are
// not set say nothing. Idempotent.
struct Ack {
  HandoffAttempt handoff;
  uint32_t first_word = 0;
  std::vector<uint64_t> words;
  bool operator==(const Ack&) const = default;
};

// These segments did not verify or did not come; publish them again. None named: all that were
// published and are neither verified nor asked for again.
struct Resend {
  HandoffAttempt handoff;
  std::vector<uint32_t> segments;
  bool operator==(const Resend&) const = default;
};

// The receiver has verified all; its end is the true one.
struct Commit {
  HandoffAttempt handoff;
  bool operator==(const Commit&) const = default;
};

// This side's end is `failed`; the other side ends too, and answers as it answers CANCEL.
struct Failed {
  HandoffAttempt handoff;
  Code code = Code::kInternal;
  std::string text;
  bool operator==(const Failed&) const = default;
};

// Stop; answered by DRAINED once nothing of this handoff writes or reads at the answering side.
struct Cancel {
  HandoffAttempt handoff;
  std::string text;
  bool operator==(const Cancel&) const = default;
};
struct Drained {
  HandoffAttempt handoff;
  bool operator==(const Drained&) const = default;
};

// Asks the holder to push these chunks; answered by OFFER of the longest leading run that is
// held, or by MISS.
struct Fetch {
  HandoffAttempt handoff;
  uint32_t tokens = 0;
  TenantId tenant = 0;  // whose chunks they are
  std::vector<ChunkKey> keys;
  uint32_t budget_ms = 0;
  bool operator==(const Fetch&) const = default;
};
struct Miss {
  HandoffAttempt handoff;
  bool operator==(const Miss&) const = default;
};

// Asks which of these chunks the other node's own tiers have, without asking further nodes; answered
// by FOUND, within the budget where nothing else is known by then.
struct Lookup {
  uint64_t question = 0;  // numbers the asker's questions on this connection
  TenantId tenant = 0;    // whose chunks they are
  uint16_t kv_group = 0;
  uint16_t head_group = 0;
  std::vector<ChunkKey> keys;
  uint32_t budget_ms = 0;
  bool operator==(const Lookup&) const = default;
};
struct Found {
  uint64_t question = 0;
  std::vector<bool> held;  // one a key that was asked for
  bool operator==(const Found&) const = default;
};

struct Heartbeat {
  uint64_t sequence = 0;
  bool operator==(const Heartbeat&) const = default;
};

// Proves that its sender has the token: an HMAC over both HELLOs of this connection
// (control/auth.h). After HELLO, before anything else, where both sides have a token.
struct Auth {
  std::array<uint8_t, 32> proof{};
  bool operator==(const Auth&) const = default;
};

using Message = std::variant<Hello, Queued, Offer, Accept, Refuse, Sent, Ack, Resend, Commit,
                             Failed, Cancel, Drained, Fetch, Miss, Heartbeat, Auth, Lookup, Found>;

// "OFFER", "ACK", …: as DESIGN and the logs write them.
const char* message_name(const Message& message);
// The handoff a message belongs to; nullptr for HELLO, HEARTBEAT, AUTH, LOOKUP and FOUND.
const HandoffAttempt* handoff_of(const Message& message);

}  // namespace baton::protocol
