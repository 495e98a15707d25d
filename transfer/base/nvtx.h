// NVTX ranges, so that Nsight shows our stages by name; nothing where the headers are absent.
// Thread-safe.
#pragma once

#if defined(BATON_HAVE_NVTX)
#include <nvtx3/nvToolsExt.h>
#endif

namespace baton {

class NvtxRange {
 public:
#if defined(BATON_HAVE_NVTX)
  explicit NvtxRange(const char* name) { nvtxRangePushA(name); }
  ~NvtxRange() { nvtxRangePop(); }
#else
  explicit NvtxRange(const char* /*name*/) {}
#endif
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace baton
