#include "transfer/ucx/records.h"

#include <bit>
#include <cstring>
#include <string>

namespace baton::ucx {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kMagic = 0x554e5442;  // "BTNU"
constexpr uint16_t kFormat = 1;
constexpr size_t kGreetingBytes = 88;
constexpr size_t kPieceBytes = 72;
constexpr size_t kConsumedBytes = 24;
constexpr size_t kByeBytes = 16;

enum Kind : uint16_t { kGreeting = 1, kRefusal, kPiece, kConsumed, kBye };

class Writer {
 public:
  explicit Writer(std::byte* to) : begin_(to), at_(to) {}
  template <typename T>
  Writer& operator<<(const T& value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
    return *this;
  }
  size_t size() const { return static_cast<size_t>(at_ - begin_); }

 private:
  std::byte* const begin_;
  std::byte* at_;
};

class Reader {
 public:
  explicit Reader(const std::byte* from) : at_(from) {}
  template <typename T>
  Reader& operator>>(T& value) {
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return *this;
  }

 private:
  const std::byte* at_;
};

size_t bytes_of(uint16_t kind) {
  switch (kind) {
    case kGreeting:
    case kRefusal:
      return kGreetingBytes;
    case kPiece:
      return kPieceBytes;
    case kConsumed:
      return kConsumedBytes;
    case kBye:
      return kByeBytes;
  }
  return 0;
}

struct Encode {
  Writer& to;
  Writer& begin(uint16_t kind) const { return to << kMagic << kFormat << kind; }
  void operator()(const Greeting& g) const {
    begin(g.refusal ? kRefusal : kGreeting) << g.nonce << g.from.value << g.to.value << g.token
                                            << g.answered << g.max_unconsumed << g.proof;
  }
  void operator()(const Piece& p) const {
    begin(kPiece) << p.token << p.sequence << p.header.handoff.id.bytes << p.header.handoff.attempt
                  << p.header.segment << p.header.bytes << p.offset << p.header.checksum.value;
  }
  void operator()(const Consumed& c) const { begin(kConsumed) << c.token << c.total; }
  void operator()(const Bye& b) const { begin(kBye) << b.token; }
};

Status wrong(const char* what, uint64_t value) {
  return Status(Code::kProtocol, std::string("ucx channel: ") + what + " " + std::to_string(value));
}

}  // namespace

RecordBytes encode(const Record& record) {
  RecordBytes out;
  Writer writer(out.bytes_.data());
  std::visit(Encode{writer}, record);
  out.size_ = writer.size();
  return out;
}

Result<Record> decode(std::span<const std::byte> bytes) {
  if (bytes.size() < kByeBytes) return wrong("a message's header has bytes", bytes.size());
  Reader reader(bytes.data());
  uint32_t magic = 0;
  uint16_t format = 0, kind = 0;
  reader >> magic >> format >> kind;
  if (magic != kMagic) return wrong("magic", magic);
  if (format != kFormat) return wrong("format", format);
  if (bytes_of(kind) == 0) return wrong("kind", kind);
  if (bytes.size() != bytes_of(kind)) return wrong("a message's header has bytes", bytes.size());
  switch (kind) {
    case kPiece: {
      Piece p;
      reader >> p.token >> p.sequence >> p.header.handoff.id.bytes >> p.header.handoff.attempt >>
          p.header.segment >> p.header.bytes >> p.offset >> p.header.checksum.value;
      return Record(p);
    }
    case kConsumed: {
      Consumed c;
      reader >> c.token >> c.total;
      return Record(c);
    }
    case kBye: {
      Bye b;
      reader >> b.token;
      return Record(b);
    }
    default: {
      Greeting g;
      g.refusal = kind == kRefusal;
      reader >> g.nonce >> g.from.value >> g.to.value >> g.token >> g.answered >>
          g.max_unconsumed >> g.proof;
      return Record(g);
    }
  }
}

}  // namespace baton::ucx
