// GGUF model files, versions 2 and 3 (little endian): metadata, and tensors of the types that the
// reference engine runs: F32, F16, Q4_1, Q8_0.
//
// Everything in a file is checked before it is believed: counts, lengths, offsets and types. What
// is wrong gives kInvalidArgument naming the file, the field and what was expected; memory used
// grows with what the file really holds, never with what it claims. Format: the GGUF
// specification of the ggml project.
//
// Thread-safe after creation. A file that somebody truncates while it is open ends the process
// (SIGBUS), as with every mapped file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "transfer/base/status.h"

namespace baton::reference {

enum class GgufType : uint32_t {  // of metadata
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// Elements stay encoded in the file; strings and nested arrays were walked once and are in bounds.
struct GgufArray {
  GgufType type = GgufType::kUint8;
  uint64_t count = 0;
  std::span<const std::byte> bytes;
};

using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string_view, GgufArray>;

enum class TensorType : uint32_t { kF32 = 0, kF16 = 1, kQ4_1 = 3, kQ8_0 = 8 };

// A row is a whole number of blocks.
struct TensorTraits {
  uint64_t block_elements;
  uint64_t block_bytes;
};
// Null for types that are not read.
const TensorTraits* tensor_traits(uint32_t type);

struct GgufTensor {
  std::string_view name;
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> dims;  // fastest first: dims[0] elements a row
  std::span<const std::byte> data;

  uint64_t row_elements() const { return dims[0]; }
  uint64_t rows() const;
  // Writes dims[0] floats; row below rows() (CHECK).
  void dequantize_row(uint64_t row, float* out) const;
};

class GgufFile {
 public:
  // Maps the file. Errors: kNotFound, kInternal (errno), kInvalidArgument.
  static Result<GgufFile> open(const std::string& path);
  // Of bytes in memory, which must outlive the result; `name` stands in messages.
  static Result<GgufFile> parse(std::span<const std::byte> bytes, std::string name);

  GgufFile(GgufFile&&) noexcept;
  GgufFile& operator=(GgufFile&&) noexcept;
  ~GgufFile();

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  // Null when absent.
  const GgufValue* find(std::string_view key) const;
  // Typed access. Absent key or other type: kInvalidArgument naming file, key and type.
  // Unsigned accepts non-negative signed integers.
  Result<uint64_t> get_unsigned(std::string_view key) const;
  Result<double> get_float(std::string_view key) const;
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  Result<std::vector<int64_t>> get_integers(std::string_view key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  // Null when absent.
  const GgufTensor* find_tensor(std::string_view name) const;

  // "<file>: <what>", as kInvalidArgument.
  Status error(const std::string& what) const;

 private:
  class Parser;
  struct Mapping;
  GgufFile();
  Status wrong(std::string_view key, const char* expected, bool present) const;

  std::string name_;
  std::unique_ptr<Mapping> mapping_;  // null when the bytes are somebody else's
  std::span<const std::byte> bytes_;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

}  // namespace baton::reference
