// For every machine: plain loops over 16 floats, products and sums rounded separately.
#include "examples/reference_engine/cpu_kernels.h"

namespace baton::reference {
namespace {

struct V {
  static constexpr int kTileRows = 2, kTilePanels = 1;
  float v[kPanel];

  template <typename F>
  static V each(F f) {
    V out;
    for (size_t i = 0; i < kPanel; ++i) out.v[i] = f(i);
    return out;
  }
  static V load(const float* p) {
    return each([&](size_t i) { return p[i]; });
  }
  static void store(float* p, const V& a) {
    for (size_t i = 0; i < kPanel; ++i) p[i] = a.v[i];
  }
  static V all(float a) {
    return each([&](size_t) { return a; });
  }
  static V zero() { return all(0.0f); }
  static V fma(const V& a, const V& b, const V& c) {
    return each([&](size_t i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static V mul(const V& a, const V& b) {
    return each([&](size_t i) { return a.v[i] * b.v[i]; });
  }
  static V div(const V& a, const V& b) {
    return each([&](size_t i) { return a.v[i] / b.v[i]; });
  }
  static V add(const V& a, const V& b) {
    return each([&](size_t i) { return a.v[i] + b.v[i]; });
  }
  static V sub(const V& a, const V& b) {
    return each([&](size_t i) { return a.v[i] - b.v[i]; });
  }
  static V max(const V& a, const V& b) {
    return each([&](size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static V min(const V& a, const V& b) {
    return each([&](size_t i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static V shift_exponent(const V& p, const V& t) {
    return each([&](size_t i) {
      uint32_t bits, n;
      __builtin_memcpy(&bits, &p.v[i], sizeof bits);
      __builtin_memcpy(&n, &t.v[i], sizeof n);
      bits += n << 23;
      float out;
      __builtin_memcpy(&out, &bits, sizeof out);
      return out;
    });
  }
};

}  // namespace
}  // namespace baton::reference

#include "examples/reference_engine/cpu_kernels_body.h"

namespace baton::reference {
extern const CpuKernels kPortableKernels;
const CpuKernels kPortableKernels = {gemm, attend, rms_norm, silu_mul};
}  // namespace baton::reference
