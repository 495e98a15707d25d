// Fields of records of fixed size, little-endian, in order. Who uses it has a size of its own and
// sees to it that the fields fit.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>

namespace baton {

static_assert(std::endian::native == std::endian::little, "the fields are copied as they are");

class RecordWriter {
 public:
  explicit RecordWriter(std::span<std::byte> to) : to_(to) {}
  template <typename T>
  RecordWriter& put(const T& value) {
    std::memcpy(to_.data(), &value, sizeof value);
    to_ = to_.subspan(sizeof value);
    return *this;
  }

 private:
  std::span<std::byte> to_;
};

class RecordReader {
 public:
  explicit RecordReader(std::span<const std::byte> from) : from_(from) {}
  template <typename T>
  T get() {
    T value;
    std::memcpy(&value, from_.data(), sizeof value);
    from_ = from_.subspan(sizeof value);
    return value;
  }
  bool rest_is_zero() const {
    for (const std::byte byte : from_) {
      if (byte != std::byte{}) return false;
    }
    return true;
  }

 private:
  std::span<const std::byte> from_;
};

}  // namespace baton
