#include "examples/reference_engine/cpu_kernels.h"

#include <algorithm>

#include "transfer/base/check.h"

namespace baton::reference {

extern const CpuKernels kPortableKernels;
#if defined(BATON_REFERENCE_X86)
extern const CpuKernels kAvx2Kernels;
extern const CpuKernels kAvx512Kernels;
#endif

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas{Isa::kPortable};
#if defined(BATON_REFERENCE_X86)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.push_back(Isa::kAvx2);
  if (__builtin_cpu_supports("avx512f")) isas.push_back(Isa::kAvx512);
#endif
  return isas;
}

Isa best_isa() { return available_isas().back(); }

const CpuKernels& cpu_kernels(Isa isa) {
  const auto isas = available_isas();
  BATON_CHECK(std::find(isas.begin(), isas.end(), isa) != isas.end(), isa_name(isa));
#if defined(BATON_REFERENCE_X86)
  if (isa == Isa::kAvx512) return kAvx512Kernels;
  if (isa == Isa::kAvx2) return kAvx2Kernels;
#endif
  return kPortableKernels;
}

}  // namespace baton::reference
