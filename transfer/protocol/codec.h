// The wire format of the control connection.
//
// A frame is a header of 8 bytes and a payload:
//
//   magic u8 'B' · format version u8 · type u8 · flags u8 (0) · payload bytes u32
//
// All integers are little-endian. A payload is its message's fields in the order of messages.h:
// handoff as 16 bytes and attempt u32; bool and enums as u8; text and lists as count u32 and
// elements; a bit list as count u32 and ceil(count/8) bytes, lowest bit first, padding bits 0.
//
// Both directions enforce the bounds of messages.h. Decoding allocates no more than a small
// multiple of the bytes that are there. Errors are kProtocol when decoding and kInvalidArgument
// when encoding; they name the field and the values. Functions are pure and thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "transfer/base/status.h"
#include "transfer/protocol/messages.h"

namespace baton::protocol {

inline constexpr size_t kFrameHeaderBytes = 8;
inline constexpr uint8_t kFrameMagic = 'B';
inline constexpr uint8_t kFrameFormat = 1;
inline constexpr uint32_t kMaxPayloadBytes = kMaxFrameBytes - kFrameHeaderBytes;

// The numbers on the wire; in the order of Message's alternatives.
enum class MessageType : uint8_t {
  kHello = 1,
  kQueued,
  kOffer,
  kAccept,
  kRefuse,
  kSent,
  kAck,
  kResend,
  kCommit,
  kFailed,
  kCancel,
  kDrained,
  kFetch,
  kMiss,
  kHeartbeat,
  kAuth,
};

struct FrameHeader {
  MessageType type = MessageType::kHeartbeat;
  uint32_t payload_bytes = 0;  // at most kMaxPayloadBytes
  bool operator==(const FrameHeader&) const = default;
};

// `bytes` are at least kFrameHeaderBytes; what follows them is not looked at.
Result<FrameHeader> decode_header(std::span<const std::byte> bytes);

// `payload` is exactly header.payload_bytes long.
Result<Message> decode(const FrameHeader& header, std::span<const std::byte> payload);

// A whole frame.
Result<std::vector<std::byte>> encode(const Message& message);

}  // namespace baton::protocol
