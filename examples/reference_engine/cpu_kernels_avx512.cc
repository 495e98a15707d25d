// Compiled for AVX-512 (foundation): a panel is one register.
#include <immintrin.h>

#include "examples/reference_engine/cpu_kernels.h"

namespace baton::reference {
namespace {

struct V {
  static constexpr int kTileRows = 6, kTilePanels = 4;  // 24 sums, 4 weights, 1 value of x
  __m512 v;

  static V load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static void store(float* p, V a) { _mm512_storeu_ps(p, a.v); }
  static V all(float a) { return {_mm512_set1_ps(a)}; }
  static V zero() { return {_mm512_setzero_ps()}; }
  static V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static V mul(V a, V b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static V div(V a, V b) { return {_mm512_div_ps(a.v, b.v)}; }
  static V add(V a, V b) { return {_mm512_add_ps(a.v, b.v)}; }
  static V sub(V a, V b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static V max(V a, V b) { return {_mm512_max_ps(a.v, b.v)}; }
  static V min(V a, V b) { return {_mm512_min_ps(a.v, b.v)}; }
  static V shift_exponent(V p, V t) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p.v), n))};
  }
};

}  // namespace
}  // namespace baton::reference

#include "examples/reference_engine/cpu_kernels_body.h"

namespace baton::reference {
extern const CpuKernels kAvx512Kernels;
const CpuKernels kAvx512Kernels = {gemm, attend, rms_norm, silu_mul};
}  // namespace baton::reference
