// The inner loops of the forward pass, one table of functions per instruction set, chosen at run
// time. All sums have one order that depends on nothing but the operands' own shapes.
//
// Packed weights: [columns / 16][k][16], the last panel filled up with zero columns.
// Thread-safe: pure functions of their arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace baton::reference {

enum class Isa : uint8_t { kPortable, kAvx2, kAvx512 };
const char* isa_name(Isa isa);
// Those that this machine can run, slowest first; never empty.
std::vector<Isa> available_isas();
Isa best_isa();

inline constexpr size_t kPanel = 16;    // columns of a panel
inline constexpr size_t kKeyTile = 64;  // keys of one attention tile, cut at absolute positions
inline constexpr size_t round_to_panel(size_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

struct GemmArgs {
  const float* x;   // [rows][x_stride]
  size_t x_stride;  // floats
  size_t rows;
  const float* w;  // packed, first panel to compute
  size_t k;
  size_t panels;
  float* y;  // [rows][y_stride], first column of the first panel
  size_t y_stride;
  bool add;  // y += x·w, instead of y = x·w
};

// One tile of keys for the query heads of one token that share a KV head.
struct AttendArgs {
  const float* q;  // [heads][q_stride], unscaled
  size_t q_stride;
  size_t heads;
  size_t head_dim;
  float scale;
  const float* keys;    // [kKeyTile / 16][head_dim][16]: transposed
  const float* values;  // [kKeyTile][padded head_dim]
  size_t valid;         // leading keys of the tile that the token may see, 1…kKeyTile
  // Running state, [heads] and [heads][padded head_dim]; start with -infinity, 0 and 0.
  float* maximum;
  float* sum;
  float* out;
};

struct CpuKernels {
  void (*gemm)(const GemmArgs&);
  void (*attend)(const AttendArgs&);
  // out[i] = x[i] / rms(x) * weight[i]; arrays of `padded` floats, zero from n on.
  void (*rms_norm)(const float* x, const float* weight, size_t padded, size_t n, float eps,
                   float* out);
  // out[i] = silu(gate[i]) * up[i], n a multiple of kPanel.
  void (*silu_mul)(const float* gate, const float* up, size_t n, float* out);
};
// CHECKs that the machine can run it.
const CpuKernels& cpu_kernels(Isa isa);

}  // namespace baton::reference
