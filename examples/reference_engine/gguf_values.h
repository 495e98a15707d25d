// Inside the GGUF reader: values of fixed size as they lie in a file.
#pragma once

#include <bit>
#include <cstring>
#include <iterator>

#include "examples/reference_engine/gguf.h"

namespace baton::reference::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies");

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Bytes of a value of fixed size; 0 for strings, arrays and types that do not exist.
inline size_t fixed_size(GgufType type) {
  constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto index = static_cast<size_t>(type);
  return index < std::size(kSizes) ? kSizes[index] : 0;
}

// The value of a type of fixed size other than bool.
inline GgufValue fixed_value(GgufType type, const std::byte* p) {
  switch (type) {
    case GgufType::kUint8:
      return uint64_t{load<uint8_t>(p)};
    case GgufType::kInt8:
      return int64_t{load<int8_t>(p)};
    case GgufType::kUint16:
      return uint64_t{load<uint16_t>(p)};
    case GgufType::kInt16:
      return int64_t{load<int16_t>(p)};
    case GgufType::kUint32:
      return uint64_t{load<uint32_t>(p)};
    case GgufType::kInt32:
      return int64_t{load<int32_t>(p)};
    case GgufType::kUint64:
      return load<uint64_t>(p);
    case GgufType::kInt64:
      return load<int64_t>(p);
    case GgufType::kFloat32:
      return double{load<float>(p)};
    case GgufType::kBool:
      return load<uint8_t>(p) != 0;
    default:
      return load<double>(p);
  }
}

}  // namespace baton::reference::gguf
