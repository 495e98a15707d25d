// What goes over the connections of a tcp channel (its lanes): a greeting each way, then segments,
// from both sides. Everything is little-endian and of fixed size but the payload; reserved bytes
// are zero.
//
//   Greeting, 96 bytes: magic "BTNT" · format u16 · kind u16 (1 greeting, 2 refusal) ·
//     nonce u64 (the one that the other side's HELLO showed) · from u64 · to u64 (incarnations) ·
//     opening u64 (the dialler's number for these lanes) · lane u16 · lanes u16 · reserved u32 ·
//     proof 32 bytes · reserved to the end
//   Segment: header, 48 bytes: magic "BSEG" · segment u32 · attempt u32 · reserved u32 ·
//       handoff 16 bytes · bytes u64 · check u64 (of what stands before it)
//     payload, `bytes`
//     trailer, 16 bytes: checksum u64 · state u32 (1 whole, 2 given up) · magic "BEND"
//
// The checksum follows the payload because it is taken while the payload is being sent. A segment
// that was given up in the middle is filled up with zeros: its end is where its header said.
//
// Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "transfer/channel.h"

namespace baton::tcp {

inline constexpr size_t kGreetingBytes = 96;
inline constexpr size_t kHeaderBytes = 48;
inline constexpr size_t kTrailerBytes = 16;
inline constexpr uint16_t kMaxLanes = 16;

struct Greeting {
  bool refusal = false;
  uint64_t nonce = 0;
  Incarnation from;
  Incarnation to;
  uint64_t opening = 0;
  uint16_t lane = 0;
  uint16_t lanes = 1;
  std::array<uint8_t, 32> proof{};
  bool operator==(const Greeting&) const = default;
};

struct Trailer {
  Checksum checksum;
  bool given_up = false;
  bool operator==(const Trailer&) const = default;
};

using GreetingBytes = std::array<std::byte, kGreetingBytes>;
using HeaderBytes = std::array<std::byte, kHeaderBytes>;
using TrailerBytes = std::array<std::byte, kTrailerBytes>;

GreetingBytes encode(const Greeting& greeting);
HeaderBytes encode(const SegmentHeader& header);  // without its checksum
TrailerBytes encode(const Trailer& trailer);

// Errors: kProtocol, naming the field.
Result<Greeting> decode_greeting(std::span<const std::byte, kGreetingBytes> bytes);
Result<SegmentHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes);
Result<Trailer> decode_trailer(std::span<const std::byte, kTrailerBytes> bytes);

}  // namespace baton::tcp
