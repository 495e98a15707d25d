// The loops of cpu_kernels.h, written once over a vector of 16 floats. Included only by the files
// that are each compiled for one instruction set, which define `V` first; everything here has
// internal linkage, and nothing of the standard library is instantiated, so that no code for a
// newer machine can leak into a shared inline function.
//
// V: load, store, all(value), zero; fma(a, b, c) = a·b + c; mul, add, sub, max, min;
//    shift_exponent(p, t) = p·2^n for t = n + kRoundMagic.
//
// Never reassociate: the bits of every sum are part of the contract.
#include "examples/reference_engine/cpu_kernels.h"

namespace baton::reference {
namespace {

constexpr float kRoundMagic = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer

// w[p * panel_stride + i * k_stride + lane]
struct Tile {
  const float* x;
  size_t x_stride;
  const float* w;
  size_t panel_stride;
  size_t k_stride;
  size_t k;
  float* y;
  size_t y_stride;
  bool add;
};

// R rows times P panels, each output summed over k in ascending order in one register.
template <int R, int P>
void multiply(const Tile& t) {
  V acc[R][P];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) acc[r][p] = V::zero();
  }
  const float* x = t.x;
  const float* w = t.w;
  const size_t x_stride = t.x_stride, panel_stride = t.panel_stride, k_stride = t.k_stride;
  for (size_t k = t.k; k > 0; --k, ++x, w += k_stride) {
    V weights[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) weights[p] = V::load(w + p * panel_stride);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V value = V::all(x[r * x_stride]);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) acc[r][p] = V::fma(value, weights[p], acc[r][p]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      float* y = t.y + r * t.y_stride + p * kPanel;
      V::store(y, t.add ? V::add(V::load(y), acc[r][p]) : acc[r][p]);
    }
  }
}

// The last rows, fewer than a full register tile.
template <int R, int P>
void multiply_rest(const Tile& t, size_t rows) {
  if constexpr (R > 0) {
    if (rows == R) {
      multiply<R, P>(t);
    } else {
      multiply_rest<R - 1, P>(t, rows);
    }
  }
}

template <int P>
void multiply_rows(Tile t, size_t rows) {
  constexpr size_t kRows = V::kTileRows;
  for (; rows >= kRows; rows -= kRows) {
    multiply<kRows, P>(t);
    t.x += kRows * t.x_stride;
    t.y += kRows * t.y_stride;
  }
  multiply_rest<kRows - 1, P>(t, rows);
}

void multiply_all(Tile t, size_t rows, size_t panels) {
  constexpr size_t kWide = V::kTilePanels;
  for (; panels >= kWide; panels -= kWide) {
    multiply_rows<kWide>(t, rows);
    t.w += kWide * t.panel_stride;
    t.y += kWide * kPanel;
  }
  for (; panels > 0; --panels) {
    multiply_rows<1>(t, rows);
    t.w += t.panel_stride;
    t.y += kPanel;
  }
}

void gemm(const GemmArgs& a) {
  multiply_all({a.x, a.x_stride, a.w, a.k * kPanel, kPanel, a.k, a.y, a.y_stride, a.add}, a.rows,
               a.panels);
}

// e^x, relative error about 1e-7; below -87 it stays at e^-87, which is nothing beside a
// maximum of e^0. Range reduction to |r| <= ln2/2 and a polynomial of degree 7 (Cephes expf).
inline V exp(V x) {
  x = V::min(V::max(x, V::all(-87.0f)), V::all(88.0f));
  const V t = V::fma(x, V::all(1.44269504f), V::all(kRoundMagic));
  const V n = V::sub(t, V::all(kRoundMagic));
  V r = V::fma(n, V::all(-0.693359375f), x);
  r = V::fma(n, V::all(2.12194440e-4f), r);
  V p = V::all(1.9875691500e-4f);
  p = V::fma(p, r, V::all(1.3981999507e-3f));
  p = V::fma(p, r, V::all(8.3334519073e-3f));
  p = V::fma(p, r, V::all(4.1665795894e-2f));
  p = V::fma(p, r, V::all(1.6666665459e-1f));
  p = V::fma(p, r, V::all(5.0000001201e-1f));
  p = V::fma(p, V::mul(r, r), V::add(r, V::all(1.0f)));
  return V::shift_exponent(p, t);
}

float sum_lanes(V v) {
  float lane[kPanel];
  V::store(lane, v);
  for (size_t width = kPanel / 2; width > 0; width /= 2) {
    for (size_t i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

// scores of one head -> weights e^(score - maximum), its running maximum, sum and outputs brought
// up to date. Keys that the token may not see were scored from whatever lies there; they are
// dropped here and never multiplied with a value.
void soften(const AttendArgs& a, size_t head, size_t padded, float* score) {
  const float before = a.maximum[head];
  float maximum = before;
  for (size_t i = 0; i < a.valid; ++i) {
    score[i] *= a.scale;
    if (score[i] > maximum) maximum = score[i];
  }
  for (size_t i = a.valid; i < kKeyTile; ++i) score[i] = 0.0f;
  for (size_t i = 0; i < kKeyTile; i += kPanel) {
    V::store(score + i, exp(V::sub(V::load(score + i), V::all(maximum))));
  }
  for (size_t i = a.valid; i < kKeyTile; ++i) score[i] = 0.0f;
  V mass = V::zero();
  for (size_t i = 0; i < kKeyTile; i += kPanel) mass = V::add(mass, V::load(score + i));

  float shrink[kPanel];
  V::store(shrink, exp(V::all(before - maximum)));
  a.maximum[head] = maximum;
  a.sum[head] = a.sum[head] * shrink[0] + sum_lanes(mass);
  float* out = a.out + head * padded;
  for (size_t i = 0; i < padded; i += kPanel) {
    V::store(out + i, V::mul(V::load(out + i), V::all(shrink[0])));
  }
}

void attend(const AttendArgs& a) {
  constexpr size_t kHeadsAtOnce = 4;
  const size_t padded = round_to_panel(a.head_dim);
  alignas(64) float score[kHeadsAtOnce * kKeyTile];
  for (size_t head = 0; head < a.heads; head += kHeadsAtOnce) {
    const size_t left = a.heads - head;
    const size_t heads = left < kHeadsAtOnce ? left : kHeadsAtOnce;
    multiply_all({a.q + head * a.q_stride, a.q_stride, a.keys, a.head_dim * kPanel, kPanel,
                  a.head_dim, score, kKeyTile, false},
                 heads, kKeyTile / kPanel);
    for (size_t h = 0; h < heads; ++h) soften(a, head + h, padded, score + h * kKeyTile);
    multiply_all(
        {score, kKeyTile, a.values, kPanel, padded, a.valid, a.out + head * padded, padded, true},
        heads, padded / kPanel);
  }
}

void rms_norm(const float* x, const float* weight, size_t padded, size_t n, float eps, float* out) {
  V squares = V::zero();
  for (size_t i = 0; i < padded; i += kPanel) {
    const V v = V::load(x + i);
    squares = V::fma(v, v, squares);
  }
  const V scale = V::all(1.0f / __builtin_sqrtf(sum_lanes(squares) / static_cast<float>(n) + eps));
  for (size_t i = 0; i < padded; i += kPanel) {
    V::store(out + i, V::mul(V::mul(V::load(x + i), scale), V::load(weight + i)));
  }
}

void silu_mul(const float* gate, const float* up, size_t n, float* out) {
  const V one = V::all(1.0f);
  for (size_t i = 0; i < n; i += kPanel) {
    const V g = V::load(gate + i);
    const V denominator = V::add(one, exp(V::sub(V::zero(), g)));
    V::store(out + i, V::mul(V::div(g, denominator), V::load(up + i)));
  }
}

}  // namespace
}  // namespace baton::reference
