// Writes GGUF files for tests: valid ones, and ones that lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "examples/reference_engine/gguf.h"

namespace baton::reference {

class GgufWriter {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;  // written as metadata when it is not 32

  void add_u32(std::string_view key, uint32_t value) { entry(key, GgufType::kUint32, value); }
  void add_float(std::string_view key, float value) { entry(key, GgufType::kFloat32, value); }
  void add_string(std::string_view key, std::string_view value) {
    begin(key, GgufType::kString);
    string(metadata_, value);
  }
  template <typename T>
  void add_scalar(std::string_view key, GgufType type, T value) {
    entry(key, type, value);
  }
  void add_strings(std::string_view key, std::span<const std::string> values) {
    begin(key, GgufType::kArray);
    number(metadata_, static_cast<uint32_t>(GgufType::kString));
    number(metadata_, uint64_t{values.size()});
    for (const auto& value : values) string(metadata_, value);
  }
  template <typename T>
  void add_numbers(std::string_view key, GgufType type, std::span<const T> values) {
    begin(key, GgufType::kArray);
    number(metadata_, static_cast<uint32_t>(type));
    number(metadata_, uint64_t{values.size()});
    for (const T value : values) number(metadata_, value);
  }
  // Any bytes as a value.
  void add_raw(std::string_view key, uint32_t type, std::string_view bytes) {
    begin(key, static_cast<GgufType>(type));
    metadata_ += bytes;
  }

  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;
    uint32_t type = 0;
    std::string data;
    uint64_t offset = UINT64_MAX;  // other than where the data lies
  };
  void add_tensor(Tensor tensor) { tensors_.push_back(std::move(tensor)); }
  void add_f32(std::string name, std::vector<uint64_t> dims, std::span<const float> values) {
    add_tensor({std::move(name), std::move(dims), 0,
                std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes())});
  }

  std::string finish() {
    if (alignment != 32) add_u32("general.alignment", static_cast<uint32_t>(alignment));
    std::string file = "GGUF";
    number(file, version);
    number(file, uint64_t{tensors_.size()});
    number(file, entries_);
    file += metadata_;
    std::string data;
    for (const auto& tensor : tensors_) {
      string(file, tensor.name);
      number(file, static_cast<uint32_t>(tensor.dims.size()));
      for (const uint64_t dim : tensor.dims) number(file, dim);
      number(file, tensor.type);
      number(file, tensor.offset == UINT64_MAX ? uint64_t{data.size()} : tensor.offset);
      data += tensor.data;
      data.resize((data.size() + alignment - 1) / alignment * alignment);
    }
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data;
  }

 private:
  template <typename T>
  static void number(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void string(std::string& out, std::string_view value) {
    number(out, uint64_t{value.size()});
    out += value;
  }
  void begin(std::string_view key, GgufType type) {
    ++entries_;
    string(metadata_, key);
    number(metadata_, static_cast<uint32_t>(type));
  }
  template <typename T>
  void entry(std::string_view key, GgufType type, T value) {
    begin(key, type);
    number(metadata_, value);
  }

  std::string metadata_;
  uint64_t entries_ = 0;
  std::vector<Tensor> tensors_;
};

inline Result<GgufFile> parse_gguf(const std::string& bytes, std::string name = "test.gguf") {
  return GgufFile::parse(std::as_bytes(std::span(bytes)), std::move(name));
}

}  // namespace baton::reference
