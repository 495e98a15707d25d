// Which vector instructions the host kernels use. Chosen at run time; all give the same bytes and
// the same checksum.
#pragma once

#include <cstdint>
#include <vector>

namespace baton {

enum class Isa : uint8_t { kScalar, kAvx2, kAvx512 };

const char* isa_name(Isa isa);

// What this machine can run, kScalar first, the best last.
const std::vector<Isa>& available_isas();

inline Isa best_isa() { return available_isas().back(); }

}  // namespace baton
