// Bytes -> GgufFile; every number is checked against what the file holds before it is used.
#include <algorithm>
#include <bit>

#include "examples/reference_engine/gguf.h"
#include "examples/reference_engine/gguf_values.h"

namespace baton::reference {
namespace {

using gguf::fixed_size;
using gguf::fixed_value;
using gguf::load;

constexpr uint64_t kMaxElements = uint64_t{1} << 40;
constexpr int kMaxArrayDepth = 4;

bool known(GgufType type) { return type <= GgufType::kFloat64; }

}  // namespace

class GgufFile::Parser {
 public:
  explicit Parser(GgufFile& file) : file_(file) {}

  Status run() {
    BATON_RETURN_IF_ERROR(header());
    for (uint64_t i = 0; i < values_; ++i) BATON_RETURN_IF_ERROR(metadata(i));
    BATON_RETURN_IF_ERROR(read_alignment());
    for (uint64_t i = 0; i < tensors_; ++i) BATON_RETURN_IF_ERROR(tensor(i));
    return tensor_data();
  }

 private:
  uint64_t left() const { return file_.bytes_.size() - at_; }
  const std::byte* here() const { return file_.bytes_.data() + at_; }

  Status truncated(const std::string& what, uint64_t needed) const {
    return file_.error(what + " at byte " + std::to_string(at_) + ": expected " +
                       std::to_string(needed) + " bytes, " + std::to_string(left()) + " are left");
  }

  template <typename T>
  Status number(const std::string& what, T& out) {
    if (left() < sizeof(T)) return truncated(what, sizeof(T));
    out = load<T>(here());
    at_ += sizeof(T);
    return {};
  }

  Status string(const std::string& what, std::string_view& out) {
    uint64_t size = 0;
    BATON_RETURN_IF_ERROR(number(what + " (length)", size));
    if (left() < size) return truncated(what, size);
    out = {reinterpret_cast<const char*>(here()), static_cast<size_t>(size)};
    at_ += size;
    return {};
  }

  Status header() {
    uint32_t magic = 0, version = 0;
    BATON_RETURN_IF_ERROR(number("magic", magic));
    if (magic != 0x46554747) return file_.error("magic: expected \"GGUF\"");
    BATON_RETURN_IF_ERROR(number("version", version));
    if (version != 2 && version != 3) {
      return file_.error("version: expected 2 or 3, found " + std::to_string(version));
    }
    BATON_RETURN_IF_ERROR(number("tensor count", tensors_));
    BATON_RETURN_IF_ERROR(number("metadata count", values_));
    // The least bytes that so many entries take: key, type, value; name, rank, one dim, type,
    // offset.
    if (values_ > left() / 13) return too_many("metadata count", values_);
    if (tensors_ > left() / 32) return too_many("tensor count", tensors_);
    return {};
  }

  Status too_many(const char* what, uint64_t count) const {
    return file_.error(std::string(what) + ": " + std::to_string(count) +
                       " is more than the file's " + std::to_string(file_.bytes_.size()) +
                       " bytes can hold");
  }

  Status metadata(uint64_t index) {
    std::string_view key;
    uint32_t type = 0;
    BATON_RETURN_IF_ERROR(string("metadata key " + std::to_string(index), key));
    const std::string what = "metadata \"" + std::string(key.substr(0, 100)) + "\"";
    BATON_RETURN_IF_ERROR(number(what + " (type)", type));
    GgufValue value;
    BATON_RETURN_IF_ERROR(read_value(what, static_cast<GgufType>(type), value));
    if (!file_.values_.emplace(key, value).second) return file_.error(what + " occurs twice");
    return {};
  }

  Status read_value(const std::string& what, GgufType type, GgufValue& out) {
    if (!known(type)) {
      return file_.error(what + ": expected a value type below 13, found " +
                         std::to_string(static_cast<uint32_t>(type)));
    }
    if (type == GgufType::kString) {
      std::string_view text;
      BATON_RETURN_IF_ERROR(string(what, text));
      out = text;
      return {};
    }
    if (type == GgufType::kArray) {
      GgufArray array;
      BATON_RETURN_IF_ERROR(read_array(what, array, 1));
      out = array;
      return {};
    }
    if (left() < fixed_size(type)) return truncated(what, fixed_size(type));
    out = fixed_value(type, here());
    at_ += fixed_size(type);
    return {};
  }

  Status read_array(const std::string& what, GgufArray& array, int depth) {
    if (depth > kMaxArrayDepth) {
      return file_.error(what + ": expected arrays nested at most " +
                         std::to_string(kMaxArrayDepth) + " deep");
    }
    uint32_t type = 0;
    BATON_RETURN_IF_ERROR(number(what + " (element type)", type));
    array.type = static_cast<GgufType>(type);
    if (!known(array.type)) {
      return file_.error(what + ": expected an element type below 13, found " +
                         std::to_string(type));
    }
    BATON_RETURN_IF_ERROR(number(what + " (count)", array.count));
    const uint64_t begin = at_;
    if (const size_t size = fixed_size(array.type); size > 0) {
      if (array.count > left() / size) return too_many(what.c_str(), array.count);
      at_ += array.count * size;
    } else {
      if (array.count > left() / 8) return too_many(what.c_str(), array.count);
      for (uint64_t i = 0; i < array.count; ++i) {
        std::string_view text;
        GgufArray inner;
        BATON_RETURN_IF_ERROR(array.type == GgufType::kString ? string(what, text)
                                                              : read_array(what, inner, depth + 1));
      }
    }
    array.bytes = file_.bytes_.subspan(begin, at_ - begin);
    return {};
  }

  Status read_alignment() {
    if (file_.find("general.alignment") == nullptr) return {};
    BATON_ASSIGN_OR_RETURN(alignment_, file_.get_unsigned("general.alignment"));
    if (!std::has_single_bit(alignment_) || alignment_ > 65536) {
      return file_.error(
          "metadata \"general.alignment\": expected a power of two up to 65536, found " +
          std::to_string(alignment_));
    }
    return {};
  }

  Status tensor(uint64_t index) {
    GgufTensor tensor;
    BATON_RETURN_IF_ERROR(string("name of tensor " + std::to_string(index), tensor.name));
    const std::string what = "tensor \"" + std::string(tensor.name.substr(0, 100)) + "\"";
    uint32_t rank = 0, type = 0;
    BATON_RETURN_IF_ERROR(number(what + " (rank)", rank));
    if (rank < 1 || rank > 4) {
      return file_.error(what + ": expected 1 to 4 dimensions, found " + std::to_string(rank));
    }
    uint64_t elements = 1;
    for (uint32_t i = 0; i < rank; ++i) {
      uint64_t dim = 0;
      BATON_RETURN_IF_ERROR(number(what + " (dimensions)", dim));
      if (dim == 0 || dim > kMaxElements / elements) {
        return file_.error(what + ": dimension " + std::to_string(i) + " is " +
                           std::to_string(dim) + ": expected 1 to 2^40 elements in all");
      }
      elements *= dim;
      tensor.dims.push_back(dim);
    }
    BATON_RETURN_IF_ERROR(number(what + " (type)", type));
    const TensorTraits* traits = tensor_traits(type);
    if (traits == nullptr) {
      return file_.error(what + ": expected type F32 (0), F16 (1), Q4_1 (3) or Q8_0 (8), found " +
                         std::to_string(type));
    }
    tensor.type = static_cast<TensorType>(type);
    if (tensor.dims[0] % traits->block_elements != 0) {
      return file_.error(what + ": expected rows of a multiple of " +
                         std::to_string(traits->block_elements) + " elements, found " +
                         std::to_string(tensor.dims[0]));
    }
    uint64_t offset = 0;
    BATON_RETURN_IF_ERROR(number(what + " (offset)", offset));
    if (offset % alignment_ != 0) {
      return file_.error(what + ": offset " + std::to_string(offset) + ": expected a multiple of " +
                         std::to_string(alignment_));
    }
    places_.push_back({offset, elements / traits->block_elements * traits->block_bytes});
    if (!file_.tensor_index_.emplace(tensor.name, file_.tensors_.size()).second) {
      return file_.error(what + " occurs twice");
    }
    file_.tensors_.push_back(std::move(tensor));
    return {};
  }

  Status tensor_data() {
    const uint64_t begin =
        std::min<uint64_t>((at_ + alignment_ - 1) / alignment_ * alignment_, file_.bytes_.size());
    const uint64_t size = file_.bytes_.size() - begin;
    uint64_t total = 0;
    for (size_t i = 0; i < places_.size(); ++i) {
      const auto [offset, bytes] = places_[i];
      if (offset > size || bytes > size - offset) {
        return file_.error("tensor \"" + std::string(file_.tensors_[i].name.substr(0, 100)) +
                           "\": expected " + std::to_string(bytes) + " bytes at offset " +
                           std::to_string(offset) + " of the data section, which has " +
                           std::to_string(size));
      }
      file_.tensors_[i].data = file_.bytes_.subspan(begin + offset, bytes);
      total += bytes;
      // Overlapping tensors would let a small file ask for any amount of memory.
      if (total > size) {
        return file_.error("tensor data: expected tensors that do not overlap, found more than " +
                           std::to_string(size) + " bytes of them");
      }
    }
    return {};
  }

  struct Place {
    uint64_t offset;
    uint64_t bytes;
  };
  GgufFile& file_;
  uint64_t at_ = 0;
  uint64_t values_ = 0;
  uint64_t tensors_ = 0;
  uint64_t alignment_ = 32;
  std::vector<Place> places_;
};

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, std::string name) {
  GgufFile file;
  file.name_ = std::move(name);
  file.bytes_ = bytes;
  BATON_RETURN_IF_ERROR(Parser(file).run());
  return file;
}

}  // namespace baton::reference
