// Identities that travel between processes, each a type of its own.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "transfer/base/status.h"

namespace baton {

// A request's handoff: a UUID chosen by whoever starts it (the router).
struct HandoffId {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const HandoffId&) const = default;

  static HandoffId random();
  // Parses 8-4-4-4-12 hexadecimal digits.
  static Result<HandoffId> parse(std::string_view text);
  std::string to_string() const;
};

// One attempt of a handoff; every attempt lives and ends by itself.
struct HandoffAttempt {
  HandoffId id;
  uint32_t attempt = 1;
  auto operator<=>(const HandoffAttempt&) const = default;
  // "<uuid>/<attempt>"
  std::string to_string() const { return id.to_string() + "/" + std::to_string(attempt); }
};

// Random number of one life of a node; messages of an older life are refused.
struct Incarnation {
  uint64_t value = 0;
  auto operator<=>(const Incarnation&) const = default;
  static Incarnation random();
};

// 64 bits from the operating system's generator.
uint64_t random_u64();

// Lower-case hexadecimal digits of bytes.
std::string to_hex(const void* bytes, size_t size);

}  // namespace baton

template <>
struct std::hash<baton::HandoffAttempt> {
  size_t operator()(const baton::HandoffAttempt& h) const noexcept {
    uint64_t low = 0;
    std::memcpy(&low, h.id.bytes.data() + 8, sizeof low);
    return low ^ (h.attempt * 0x9e3779b97f4a7c15ull);
  }
};
