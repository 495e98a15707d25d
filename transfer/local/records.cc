#include "transfer/local/records.h"

#include <string>

#include "transfer/record_io.h"

namespace baton::local {
namespace {

constexpr uint32_t kMagic = 0x4c4e5442;  // "BTNL"
constexpr uint16_t kFormat = 1;
constexpr uint16_t kGreetingKind = 1;
constexpr uint16_t kRefusalKind = 2;
constexpr uint16_t kPublishKind = 1;
constexpr uint16_t kConsumedKind = 2;

Status wrong(const char* field, uint64_t value) {
  return Status(Code::kProtocol,
                "local channel: " + std::string(field) + " is " + std::to_string(value));
}

Result<std::variant<Publish, Consumed>> decode_publish(RecordReader reader) {
  Publish publish;
  const auto arena = reader.get<uint16_t>();
  if (arena >= kArenas) return wrong("arena", arena);
  publish.arena = static_cast<ArenaIndex>(arena);
  publish.header.segment = reader.get<uint32_t>();
  publish.sequence = reader.get<uint64_t>();
  publish.offset = reader.get<uint64_t>();
  publish.header.bytes = reader.get<uint64_t>();
  publish.header.checksum.value = reader.get<uint64_t>();
  publish.header.handoff.id.bytes = reader.get<decltype(HandoffId::bytes)>();
  publish.header.handoff.attempt = reader.get<uint32_t>();
  if (!reader.rest_is_zero()) return wrong("a reserved field", 1);
  return std::variant<Publish, Consumed>(publish);
}

Result<std::variant<Publish, Consumed>> decode_consumed(RecordReader reader) {
  Consumed consumed;
  consumed.count = reader.get<uint16_t>();
  if (consumed.count == 0 || consumed.count > kSequencesARecord) {
    return wrong("count", consumed.count);
  }
  if (const auto reserved = reader.get<uint32_t>(); reserved != 0) {
    return wrong("a reserved field", reserved);
  }
  for (uint16_t i = 0; i < consumed.count; ++i) consumed.sequences[i] = reader.get<uint64_t>();
  if (!reader.rest_is_zero()) return wrong("a sequence beyond the count", 1);
  return std::variant<Publish, Consumed>(consumed);
}

}  // namespace

GreetingBytes encode(const Greeting& greeting) {
  GreetingBytes bytes{};
  RecordWriter writer(bytes);
  writer.put(kMagic).put(kFormat).put(greeting.refusal ? kRefusalKind : kGreetingKind);
  writer.put(greeting.nonce).put(greeting.from.value).put(greeting.to.value);
  writer.put(greeting.max_published).put(uint32_t{0});
  for (const Geometry& arena : greeting.arenas) writer.put(arena.arena_bytes).put(arena.slot_bytes);
  writer.put(greeting.proof);
  return bytes;
}

RecordBytes encode(const Publish& publish) {
  RecordBytes bytes{};
  RecordWriter(bytes)
      .put(kPublishKind)
      .put(static_cast<uint16_t>(publish.arena))
      .put(publish.header.segment)
      .put(publish.sequence)
      .put(publish.offset)
      .put(publish.header.bytes)
      .put(publish.header.checksum.value)
      .put(publish.header.handoff.id.bytes)
      .put(publish.header.handoff.attempt);
  return bytes;
}

RecordBytes encode(const Consumed& consumed) {
  RecordBytes bytes{};
  RecordWriter(bytes)
      .put(kConsumedKind)
      .put(consumed.count)
      .put(uint32_t{0})
      .put(consumed.sequences);
  return bytes;
}

Result<Greeting> decode_greeting(std::span<const std::byte, kGreetingBytes> bytes) {
  RecordReader reader(bytes);
  if (const auto magic = reader.get<uint32_t>(); magic != kMagic) return wrong("magic", magic);
  if (const auto format = reader.get<uint16_t>(); format != kFormat) {
    return Status(Code::kProtocol, "local channel: format is " + std::to_string(kFormat) +
                                       " here and " + std::to_string(format) + " there");
  }
  const auto kind = reader.get<uint16_t>();
  if (kind != kGreetingKind && kind != kRefusalKind) return wrong("kind of greeting", kind);
  Greeting greeting;
  greeting.refusal = kind == kRefusalKind;
  greeting.nonce = reader.get<uint64_t>();
  greeting.from.value = reader.get<uint64_t>();
  greeting.to.value = reader.get<uint64_t>();
  greeting.max_published = reader.get<uint32_t>();
  if (greeting.max_published == 0 || greeting.max_published > kMaxPublished) {
    return wrong("max_published", greeting.max_published);
  }
  if (const auto reserved = reader.get<uint32_t>(); reserved != 0) {
    return wrong("a reserved field", reserved);
  }
  for (Geometry& arena : greeting.arenas) {
    arena.arena_bytes = reader.get<uint64_t>();
    arena.slot_bytes = reader.get<uint64_t>();
    if (arena.arena_bytes != 0 && (arena.slot_bytes == 0 || arena.slot_bytes > arena.arena_bytes)) {
      return wrong("slot bytes", arena.slot_bytes);
    }
  }
  greeting.proof = reader.get<ChannelProof>();
  if (!reader.rest_is_zero()) return wrong("a reserved field", 1);
  return greeting;
}

Result<std::variant<Publish, Consumed>> decode_record(
    std::span<const std::byte, kRecordBytes> bytes) {
  RecordReader reader(bytes);
  const auto kind = reader.get<uint16_t>();
  if (kind == kPublishKind) return decode_publish(reader);
  if (kind == kConsumedKind) return decode_consumed(reader);
  return wrong("kind of record", kind);
}

Status check_range(const Publish& publish, const Geometry& arena) {
  const uint64_t bytes = publish.header.bytes;
  if (bytes == 0 || bytes > arena.slot_bytes) return wrong("bytes", bytes);
  if (publish.offset > arena.arena_bytes || bytes > arena.arena_bytes - publish.offset) {
    return wrong("offset", publish.offset);
  }
  if (publish.offset % arena.slot_bytes > arena.slot_bytes - bytes) {
    return wrong("offset across two slots", publish.offset);
  }
  return ok_status();
}

}  // namespace baton::local
