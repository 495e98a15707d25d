// What the two ends of a UCX channel say to each other: the header of each active message. Bytes
// of segments are the message's payload. Everything is little-endian and of fixed size; a message
// is as long as its kind says.
//
//   All: magic "BTNU" · format u16 · kind u16
//   GREETING 1, REFUSAL 2 (88 bytes): nonce u64 (the one that the other side's HELLO showed) ·
//     from u64 · to u64 (incarnations) · token u64 · answered token u64 · max unconsumed u64 ·
//     proof 32 bytes (channel_sessions.h)
//   PIECE 3 (72 bytes): token u64 · sequence u64 · handoff 16 bytes · attempt u32 · segment u32 ·
//     segment's bytes u64 · offset in it u64 · its checksum u64; payload: bytes from that offset
//   CONSUMED 4 (24 bytes): token u64 · bytes consumed since the channel opened u64
//   BYE 5 (16 bytes): token u64
//
// A token is a random number that a side's greeting gives the other to show with each message: it
// names the channel, and a stranger does not know it.
//
// Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "transfer/channel.h"
#include "transfer/channel_sessions.h"

namespace baton::ucx {

inline constexpr size_t kMaxRecordBytes = 88;

struct Greeting {
  bool refusal = false;
  uint64_t nonce = 0;
  Incarnation from;
  Incarnation to;
  uint64_t token = 0;           // to be shown to the sender of this
  uint64_t answered = 0;        // token of the greeting that this one answers; 0: the first
  uint64_t max_unconsumed = 0;  // charged bytes that the sender of this takes before it consumes
  ChannelProof proof{};
};

struct Piece {
  uint64_t token = 0;
  uint64_t sequence = 0;  // one for each segment sent
  SegmentHeader header;
  uint64_t offset = 0;
};

struct Consumed {
  uint64_t token = 0;
  uint64_t total = 0;  // charged bytes
};

struct Bye {
  uint64_t token = 0;
};

using Record = std::variant<Greeting, Piece, Consumed, Bye>;

class RecordBytes {
 public:
  std::span<const std::byte> span() const { return {bytes_.data(), size_}; }

 private:
  friend RecordBytes encode(const Record& record);
  std::array<std::byte, kMaxRecordBytes> bytes_{};
  size_t size_ = 0;
};

RecordBytes encode(const Record& record);
// Errors: kProtocol, naming the field and its value.
Result<Record> decode(std::span<const std::byte> bytes);

// What a segment counts against max_unconsumed: small ones cost more memory than their bytes.
inline uint64_t charge(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace baton::ucx
