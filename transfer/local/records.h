// What the two ends of a local channel say to each other over their Unix socket: a greeting each,
// then records. Everything is little-endian and of fixed size; reserved bytes are zero.
//
//   Greeting, 128 bytes: magic "BTNL" · format u16 · kind u16 (1 greeting, 2 refusal) ·
//     nonce u64 (the one that the other side's HELLO showed) · from u64 · to u64 (incarnations) ·
//     max_published u32 · reserved u32 · arena bytes u64 and slot bytes u64, transit and retained ·
//     proof 32 bytes (channel_sessions.h; zero in a refusal) · reserved to the end. With it travel
//     the descriptors of the arenas whose bytes are not zero.
//   Record, 64 bytes: kind u16, then
//     PUBLISH 1: arena u16 (0 transit, 1 retained) · segment u32 · sequence u64 · offset u64 ·
//       bytes u64 · checksum u64 · handoff 16 bytes · attempt u32 · reserved u32
//     CONSUMED 2: count u16 (1 to 7) · reserved u32 · sequences u64 each, the rest zero
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

namespace baton::local {

inline constexpr size_t kGreetingBytes = 128;
inline constexpr size_t kRecordBytes = 64;
inline constexpr size_t kArenas = 2;
inline constexpr size_t kSequencesARecord = 7;
inline constexpr uint32_t kMaxPublished = 65'536;

enum class ArenaIndex : uint16_t { kTransit = 0, kRetained = 1 };

struct Geometry {
  uint64_t arena_bytes = 0;  // zero: there is no such arena
  uint64_t slot_bytes = 0;
};

struct Greeting {
  bool refusal = false;
  uint64_t nonce = 0;
  Incarnation from;
  Incarnation to;
  uint32_t max_published = 1;  // of the sender of this, before the other side consumes
  std::array<Geometry, kArenas> arenas;
  ChannelProof proof{};
};

struct Publish {
  SegmentHeader header;
  ArenaIndex arena = ArenaIndex::kTransit;
  uint64_t sequence = 0;  // 1, 2, 3, …: one for each PUBLISH of a direction
  uint64_t offset = 0;    // in the arena
};

struct Consumed {
  std::array<uint64_t, kSequencesARecord> sequences{};
  uint16_t count = 0;
};

using GreetingBytes = std::array<std::byte, kGreetingBytes>;
using RecordBytes = std::array<std::byte, kRecordBytes>;

GreetingBytes encode(const Greeting& greeting);
RecordBytes encode(const Publish& publish);
RecordBytes encode(const Consumed& consumed);

// Errors: kProtocol, naming the field and its value.
Result<Greeting> decode_greeting(std::span<const std::byte, kGreetingBytes> bytes);
Result<std::variant<Publish, Consumed>> decode_record(
    std::span<const std::byte, kRecordBytes> bytes);

// Whether these bytes lie within one slot of the arena that its owner described; else kProtocol.
Status check_range(const Publish& publish, const Geometry& arena);

}  // namespace baton::local
