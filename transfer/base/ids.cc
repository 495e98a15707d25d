#include "transfer/base/ids.h"

#include <sys/random.h>

namespace baton {
namespace {

void fill_random(void* out, size_t size) {
  // getrandom never gives less than asked for up to 256 bytes.
  BATON_CHECK(::getrandom(out, size, 0) == static_cast<ssize_t>(size), "getrandom failed");
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

uint64_t random_u64() {
  uint64_t value = 0;
  fill_random(&value, sizeof value);
  return value;
}

Incarnation Incarnation::random() { return {random_u64()}; }

HandoffId HandoffId::random() {
  HandoffId id;
  fill_random(id.bytes.data(), id.bytes.size());
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);  // RFC 4122, version 4
  id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

Result<HandoffId> HandoffId::parse(std::string_view text) {
  const auto bad = [&] {
    return Status(Code::kInvalidArgument,
                  "handoff id is '" + std::string(text.substr(0, 64)) +
                      "': expected a UUID such as 123e4567-e89b-42d3-a456-426614174000");
  };
  if (text.size() != 36) return bad();
  HandoffId id;
  size_t byte = 0;
  for (size_t i = 0; i < text.size();) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (text[i] != '-') return bad();
      ++i;
      continue;
    }
    const int high = hex_digit(text[i]);
    const int low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return bad();
    id.bytes[byte++] = static_cast<uint8_t>(high << 4 | low);
    i += 2;
  }
  return id;
}

std::string to_hex(const void* bytes, size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const auto* p = static_cast<const uint8_t*>(bytes);
  std::string out;
  out.reserve(size * 2);
  for (size_t i = 0; i < size; ++i) {
    out += kDigits[p[i] >> 4];
    out += kDigits[p[i] & 15];
  }
  return out;
}

std::string HandoffId::to_string() const {
  std::string hex = to_hex(bytes.data(), bytes.size());
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" +
         hex.substr(16, 4) + "-" + hex.substr(20);
}

}  // namespace baton
