// Copies as the host copier does, but takes no checksum: what a checksum costs in a handoff is
// measured against it. Both sides must use it.
#pragma once

#include <memory>

#include "transfer/copier.h"

namespace baton::bench {

// Decorates a node's copier (NodeSeams::copier), whose order of completions it keeps.
std::unique_ptr<Copier> make_unchecked_copier(std::unique_ptr<Copier> checked);

}  // namespace baton::bench
