#include "transfer/tcp/records.h"

#include <string>

#include "transfer/protocol/messages.h"
#include "transfer/record_io.h"

namespace baton::tcp {
namespace {

constexpr uint32_t kGreetingMagic = 0x544e5442;  // "BTNT"
constexpr uint32_t kHeaderMagic = 0x47455342;    // "BSEG"
constexpr uint32_t kTrailerMagic = 0x444e4542;   // "BEND"
constexpr uint16_t kFormat = 1;
constexpr uint16_t kGreetingKind = 1;
constexpr uint16_t kRefusalKind = 2;
constexpr uint32_t kWhole = 1;
constexpr uint32_t kGivenUp = 2;
constexpr size_t kCheckedBytes = kHeaderBytes - sizeof(uint64_t);

Status wrong(const char* field, uint64_t value) {
  return Status(Code::kProtocol,
                "tcp channel: " + std::string(field) + " is " + std::to_string(value));
}

uint64_t check_of(std::span<const std::byte> header) {
  static const ChecksumSeed seed = make_seed({.bytes = kCheckedBytes});
  return checksum(seed, header.data(), kCheckedBytes).value;
}

}  // namespace

GreetingBytes encode(const Greeting& greeting) {
  GreetingBytes bytes{};
  RecordWriter(bytes)
      .put(kGreetingMagic)
      .put(kFormat)
      .put(greeting.refusal ? kRefusalKind : kGreetingKind)
      .put(greeting.nonce)
      .put(greeting.from.value)
      .put(greeting.to.value)
      .put(greeting.opening)
      .put(greeting.lane)
      .put(greeting.lanes)
      .put(uint32_t{0})
      .put(greeting.proof);
  return bytes;
}

HeaderBytes encode(const SegmentHeader& header) {
  HeaderBytes bytes{};
  RecordWriter writer(bytes);
  writer.put(kHeaderMagic)
      .put(header.segment)
      .put(header.handoff.attempt)
      .put(uint32_t{0})
      .put(header.handoff.id.bytes)
      .put(header.bytes);
  writer.put(check_of(bytes));
  return bytes;
}

TrailerBytes encode(const Trailer& trailer) {
  TrailerBytes bytes{};
  RecordWriter(bytes)
      .put(trailer.checksum.value)
      .put(trailer.given_up ? kGivenUp : kWhole)
      .put(kTrailerMagic);
  return bytes;
}

Result<Greeting> decode_greeting(std::span<const std::byte, kGreetingBytes> bytes) {
  RecordReader reader(bytes);
  if (const auto magic = reader.get<uint32_t>(); magic != kGreetingMagic)
    return wrong("magic", magic);
  if (const auto format = reader.get<uint16_t>(); format != kFormat) {
    return Status(Code::kProtocol, "tcp channel: format is " + std::to_string(kFormat) +
                                       " here and " + std::to_string(format) + " there");
  }
  const auto kind = reader.get<uint16_t>();
  if (kind != kGreetingKind && kind != kRefusalKind) return wrong("kind of greeting", kind);
  Greeting greeting;
  greeting.refusal = kind == kRefusalKind;
  greeting.nonce = reader.get<uint64_t>();
  greeting.from.value = reader.get<uint64_t>();
  greeting.to.value = reader.get<uint64_t>();
  greeting.opening = reader.get<uint64_t>();
  greeting.lane = reader.get<uint16_t>();
  greeting.lanes = reader.get<uint16_t>();
  if (greeting.lanes == 0 || greeting.lanes > kMaxLanes) return wrong("lanes", greeting.lanes);
  if (greeting.lane >= greeting.lanes) return wrong("lane", greeting.lane);
  if (const auto reserved = reader.get<uint32_t>(); reserved != 0)
    return wrong("a reserved field", reserved);
  greeting.proof = reader.get<decltype(greeting.proof)>();
  if (!reader.rest_is_zero()) return wrong("a reserved field", 1);
  return greeting;
}

Result<SegmentHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  RecordReader reader(bytes);
  if (const auto magic = reader.get<uint32_t>(); magic != kHeaderMagic)
    return wrong("a header's magic", magic);
  SegmentHeader header;
  header.segment = reader.get<uint32_t>();
  header.handoff.attempt = reader.get<uint32_t>();
  if (const auto reserved = reader.get<uint32_t>(); reserved != 0)
    return wrong("a reserved field", reserved);
  header.handoff.id.bytes = reader.get<decltype(HandoffId::bytes)>();
  header.bytes = reader.get<uint64_t>();
  // Where the next record begins hangs on it: bytes that are off by one would end everything.
  if (const auto check = reader.get<uint64_t>(); check != check_of(bytes))
    return wrong("a header's check", check);
  if (header.bytes == 0 || header.bytes > protocol::kMaxSegmentBytes)
    return wrong("bytes", header.bytes);
  return header;
}

Result<Trailer> decode_trailer(std::span<const std::byte, kTrailerBytes> bytes) {
  RecordReader reader(bytes);
  Trailer trailer;
  trailer.checksum.value = reader.get<uint64_t>();
  const auto state = reader.get<uint32_t>();
  if (state != kWhole && state != kGivenUp) return wrong("a trailer's state", state);
  trailer.given_up = state == kGivenUp;
  if (const auto magic = reader.get<uint32_t>(); magic != kTrailerMagic)
    return wrong("a trailer's magic", magic);
  return trailer;
}

}  // namespace baton::tcp
