#include "examples/reference_engine/gguf.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "examples/reference_engine/gguf_values.h"
#include "transfer/base/unique_fd.h"

namespace baton::reference {
using gguf::fixed_size;
using gguf::fixed_value;
using gguf::load;

struct GgufFile::Mapping {
  void* address = nullptr;
  size_t size = 0;
  ~Mapping() {
    if (size > 0) ::munmap(address, size);
  }
};

GgufFile::GgufFile() = default;
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;
GgufFile::~GgufFile() = default;

Result<GgufFile> GgufFile::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    const int error = errno;
    if (error == ENOENT) return Status(Code::kNotFound, path + ": no such file");
    return Status::from_errno("opening " + path, error);
  }
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return Status::from_errno("reading " + path, errno);
  if (!S_ISREG(info.st_mode)) {
    return Status(Code::kInvalidArgument, path + ": expected a GGUF file, found no regular file");
  }
  auto mapping = std::make_unique<Mapping>();
  if (info.st_size > 0) {
    void* address = ::mmap(nullptr, info.st_size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (address == MAP_FAILED) return Status::from_errno("mapping " + path, errno);
    mapping->address = address;
    mapping->size = static_cast<size_t>(info.st_size);
  }
  BATON_ASSIGN_OR_RETURN(
      GgufFile file, parse({static_cast<const std::byte*>(mapping->address), mapping->size}, path));
  file.mapping_ = std::move(mapping);
  return file;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Status GgufFile::error(const std::string& what) const {
  return Status(Code::kInvalidArgument, name_ + ": " + what);
}

Result<uint64_t> GgufFile::get_unsigned(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr) {
    if (const auto* number = std::get_if<uint64_t>(value)) return *number;
    if (const auto* number = std::get_if<int64_t>(value); number != nullptr && *number >= 0) {
      return static_cast<uint64_t>(*number);
    }
  }
  return wrong(key, "a non-negative integer", value != nullptr);
}

Result<double> GgufFile::get_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr) {
    if (const auto* number = std::get_if<double>(value)) return *number;
  }
  return wrong(key, "a floating-point number", value != nullptr);
}

Result<std::string_view> GgufFile::get_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr) {
    if (const auto* text = std::get_if<std::string_view>(value)) return *text;
  }
  return wrong(key, "a string", value != nullptr);
}

Result<std::vector<std::string_view>> GgufFile::get_strings(std::string_view key) const {
  const GgufValue* value = find(key);
  const GgufArray* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr || array->type != GgufType::kString) {
    return wrong(key, "an array of strings", value != nullptr);
  }
  std::vector<std::string_view> strings;
  strings.reserve(array->count);
  const std::byte* p = array->bytes.data();
  for (uint64_t i = 0; i < array->count; ++i) {
    const auto size = load<uint64_t>(p);
    strings.emplace_back(reinterpret_cast<const char*>(p + 8), size);
    p += 8 + size;
  }
  return strings;
}

Result<std::vector<int64_t>> GgufFile::get_integers(std::string_view key) const {
  const GgufValue* value = find(key);
  const GgufArray* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  const size_t size = array == nullptr ? 0 : fixed_size(array->type);
  std::vector<int64_t> integers;
  if (size > 0) integers.reserve(array->count);
  for (uint64_t i = 0; size > 0 && i < array->count; ++i) {
    const GgufValue element = fixed_value(array->type, array->bytes.data() + i * size);
    if (const auto* number = std::get_if<uint64_t>(&element)) {
      integers.push_back(static_cast<int64_t>(*number));
    } else if (const auto* number = std::get_if<int64_t>(&element)) {
      integers.push_back(*number);
    } else {
      return wrong(key, "an array of integers", true);
    }
  }
  if (size == 0) return wrong(key, "an array of integers", value != nullptr);
  return integers;
}

Status GgufFile::wrong(std::string_view key, const char* expected, bool present) const {
  return error("metadata \"" + std::string(key) + "\": expected " + expected + ", found " +
               (present ? "another type" : "nothing"));
}

}  // namespace baton::reference
