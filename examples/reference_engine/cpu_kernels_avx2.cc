// Compiled for AVX2 with FMA: a panel is two registers.
#include <immintrin.h>

#include "examples/reference_engine/cpu_kernels.h"

namespace baton::reference {
namespace {

struct V {
  static constexpr int kTileRows = 6, kTilePanels = 1;  // 12 sums, 2 weights, 1 value of x
  __m256 a, b;

  static V load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, V v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
  }
  static V all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static V zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static V fma(V x, V y, V z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  static V mul(V x, V y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static V div(V x, V y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  static V add(V x, V y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static V sub(V x, V y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static V max(V x, V y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  static V min(V x, V y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  static __m256 shift_half(__m256 p, __m256 t) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n));
  }
  static V shift_exponent(V p, V t) { return {shift_half(p.a, t.a), shift_half(p.b, t.b)}; }
};

}  // namespace
}  // namespace baton::reference

#include "examples/reference_engine/cpu_kernels_body.h"

namespace baton::reference {
extern const CpuKernels kAvx2Kernels;
const CpuKernels kAvx2Kernels = {gemm, attend, rms_norm, silu_mul};
}  // namespace baton::reference
