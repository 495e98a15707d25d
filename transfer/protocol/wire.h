// Little-endian fields of a payload, written and read by one description of each message:
// WireWriter and WireReader have the same members, so `fields(io, message)` in codec.cc serves
// both. The first error sticks; after it nothing is read or written. Private to the codec.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "transfer/base/ids.h"
#include "transfer/base/status.h"
#include "transfer/chunk_key.h"

namespace baton::protocol {

class WireBase {
 public:
  const Status& status() const { return status_; }

 protected:
  explicit WireBase(Code code) : code_(code) {}
  bool fail(const char* field, const std::string& text) {
    if (status_.ok()) status_ = Status(code_, std::string(field) + ": " + text);
    return false;
  }
  bool within(const char* field, uint64_t value, uint64_t low, uint64_t high) {
    if (value >= low && value <= high) return true;
    return fail(field, std::to_string(value) + ", expected " + std::to_string(low) + " to " +
                           std::to_string(high));
  }

 private:
  Code code_;
  Status status_;
};

class WireWriter : public WireBase {
 public:
  explicit WireWriter(std::vector<std::byte>& out) : WireBase(Code::kInvalidArgument), out_(out) {}

  template <typename T>
  void integer(const char*, const T& value) {
    if (!status().ok()) return;
    for (size_t i = 0; i < sizeof(T); ++i) {
      out_.push_back(static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i) & 0xff));
    }
  }
  template <typename T>
  void integer_within(const char* field, const T& value, uint64_t low, uint64_t high) {
    if (status().ok() && within(field, value, low, high)) integer(field, value);
  }
  void boolean(const char* field, const bool& value) { integer<uint8_t>(field, value ? 1 : 0); }
  template <typename E>
  void enumeration(const char* field, const E& value, E first, E last) {
    integer_within(field, static_cast<uint8_t>(value), static_cast<uint8_t>(first),
                   static_cast<uint8_t>(last));
  }
  template <size_t N>
  void bytes(const char*, const std::array<uint8_t, N>& value) {
    append(value.data(), N);
  }
  void text(const char* field, const std::string& value, uint32_t bound) {
    if (count(field, value.size(), bound)) append(value.data(), value.size());
  }
  void bits(const char* field, const std::vector<bool>& value, uint32_t bound) {
    if (!count(field, value.size(), bound)) return;
    for (size_t i = 0; i < value.size(); i += 8) {
      unsigned octet = 0;
      for (size_t j = i; j < value.size() && j < i + 8; ++j) octet |= unsigned{value[j]} << (j - i);
      out_.push_back(static_cast<std::byte>(octet));
    }
  }
  // `element` writes one; `element_bytes` is what the smallest takes.
  template <typename T, typename F>
  void list(const char* field, const std::vector<T>& values, uint32_t bound,
            size_t /*element_bytes*/, F&& element) {
    if (!count(field, values.size(), bound)) return;
    for (const T& value : values) element(value);
  }

 private:
  void append(const void* data, size_t size) {
    if (!status().ok()) return;
    const auto* first = static_cast<const std::byte*>(data);
    out_.insert(out_.end(), first, first + size);
  }
  bool count(const char* field, size_t size, uint32_t bound) {
    if (!status().ok() || !within(field, size, 0, bound)) return false;
    integer(field, static_cast<uint32_t>(size));
    return true;
  }

  std::vector<std::byte>& out_;
};

class WireReader : public WireBase {
 public:
  explicit WireReader(std::span<const std::byte> in) : WireBase(Code::kProtocol), in_(in) {}

  size_t left() const { return in_.size(); }

  template <typename T>
  void integer(const char* field, T& value) {
    const std::byte* bytes = take(field, sizeof(T));
    if (bytes == nullptr) return;
    uint64_t read = 0;
    for (size_t i = 0; i < sizeof(T); ++i) read |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
    value = static_cast<T>(read);
  }
  template <typename T>
  void integer_within(const char* field, T& value, uint64_t low, uint64_t high) {
    integer(field, value);
    if (status().ok()) within(field, value, low, high);
  }
  void boolean(const char* field, bool& value) {
    uint8_t read = 0;
    integer_within(field, read, 0, 1);
    value = read == 1;
  }
  template <typename E>
  void enumeration(const char* field, E& value, E first, E last) {
    uint8_t read = static_cast<uint8_t>(first);
    integer_within(field, read, static_cast<uint8_t>(first), static_cast<uint8_t>(last));
    if (status().ok()) value = static_cast<E>(read);
  }
  template <size_t N>
  void bytes(const char* field, std::array<uint8_t, N>& value) {
    if (const std::byte* bytes = take(field, N)) std::memcpy(value.data(), bytes, N);
  }
  void text(const char* field, std::string& value, uint32_t bound) {
    const uint32_t size = count(field, bound, 1);
    if (const std::byte* bytes = take(field, size)) {
      value.assign(reinterpret_cast<const char*>(bytes), size);
    }
  }
  void bits(const char* field, std::vector<bool>& value, uint32_t bound) {
    const uint32_t size = count(field, bound, 0);
    const std::byte* bytes = take(field, (size_t{size} + 7) / 8);
    if (bytes == nullptr) return;
    value.resize(size);
    for (uint32_t i = 0; i < size; ++i) {
      value[i] = (std::to_integer<unsigned>(bytes[i / 8]) >> (i % 8) & 1) != 0;
    }
    if (size % 8 != 0 && std::to_integer<unsigned>(bytes[size / 8]) >> (size % 8) != 0) {
      fail(field, "padding bits are set");
    }
  }
  template <typename T, typename F>
  void list(const char* field, std::vector<T>& values, uint32_t bound, size_t element_bytes,
            F&& element) {
    // Refused before anything is allocated when the elements cannot be there.
    values.resize(count(field, bound, element_bytes));
    for (T& value : values) {
      element(value);
      if (!status().ok()) return;
    }
  }

 private:
  const std::byte* take(const char* field, size_t size) {
    if (!status().ok()) return nullptr;
    if (size > in_.size()) {
      fail(field,
           "needs " + std::to_string(size) + " bytes, " + std::to_string(in_.size()) + " are left");
      return nullptr;
    }
    const std::byte* bytes = in_.data();
    in_ = in_.subspan(size);
    return bytes;
  }
  uint32_t count(const char* field, uint32_t bound, size_t element_bytes) {
    uint32_t size = 0;
    integer_within(field, size, 0, bound);
    if (!status().ok()) return 0;
    if (size * element_bytes > in_.size()) {
      fail(field,
           std::to_string(size) + " elements, " + std::to_string(in_.size()) + " bytes are left");
      return 0;
    }
    return size;
  }

  std::span<const std::byte> in_;
};

}  // namespace baton::protocol
