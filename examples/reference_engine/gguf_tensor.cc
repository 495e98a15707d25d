// How tensors lie in a GGUF file (see ggml's block formats).
#include <bit>
#include <cmath>
#include <cstring>

#include "examples/reference_engine/gguf.h"
#include "examples/reference_engine/gguf_values.h"
#include "transfer/base/check.h"

namespace baton::reference {
namespace {

using gguf::load;

float from_half(uint16_t half) {
  const uint32_t sign = uint32_t{half} >> 15, exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
  float magnitude;
  if (exponent == 0x1f) {
    magnitude = fraction == 0 ? HUGE_VALF : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::bit_cast<float>((exponent + 112) << 23 | fraction << 13);
  }
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace

const TensorTraits* tensor_traits(uint32_t type) {
  static constexpr TensorTraits kPlain32{1, 4}, kPlain16{1, 2}, kQ4{32, 20}, kQ8{32, 34};
  switch (static_cast<TensorType>(type)) {
    case TensorType::kF32:
      return &kPlain32;
    case TensorType::kF16:
      return &kPlain16;
    case TensorType::kQ4_1:
      return &kQ4;
    case TensorType::kQ8_0:
      return &kQ8;
  }
  return nullptr;
}

uint64_t GgufTensor::rows() const {
  uint64_t rows = 1;
  for (size_t i = 1; i < dims.size(); ++i) rows *= dims[i];
  return rows;
}

void GgufTensor::dequantize_row(uint64_t row, float* out) const {
  BATON_CHECK(row < rows(), "row beyond the tensor");
  const TensorTraits& traits = *tensor_traits(static_cast<uint32_t>(type));
  const uint64_t blocks = row_elements() / traits.block_elements;
  const std::byte* p = data.data() + row * blocks * traits.block_bytes;
  switch (type) {
    case TensorType::kF32:
      std::memcpy(out, p, blocks * sizeof(float));
      return;
    case TensorType::kF16:
      for (uint64_t i = 0; i < blocks; ++i) out[i] = from_half(load<uint16_t>(p + 2 * i));
      return;
    case TensorType::kQ4_1:  // half scale, half minimum, 16 bytes: low nibbles, then high nibbles
      for (uint64_t i = 0; i < blocks; ++i, p += traits.block_bytes, out += 32) {
        const float scale = from_half(load<uint16_t>(p));
        const float minimum = from_half(load<uint16_t>(p + 2));
        for (int j = 0; j < 16; ++j) {
          const auto byte = static_cast<uint8_t>(p[4 + j]);
          out[j] = static_cast<float>(byte & 15) * scale + minimum;
          out[j + 16] = static_cast<float>(byte >> 4) * scale + minimum;
        }
      }
      return;
    case TensorType::kQ8_0:  // half scale, 32 signed bytes
      for (uint64_t i = 0; i < blocks; ++i, p += traits.block_bytes, out += 32) {
        const float scale = from_half(load<uint16_t>(p));
        for (int j = 0; j < 32; ++j) {
          out[j] = static_cast<float>(load<int8_t>(p + 2 + j)) * scale;
        }
      }
      return;
  }
}

}  // namespace baton::reference
