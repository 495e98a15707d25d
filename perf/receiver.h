// The other process of a measurement: does what the first one says over a Wire, until it goes.
#pragma once

#include "perf/wire.h"

namespace baton::bench {

// Returns when the first process has gone.
Status serve_driver(UniqueFd wire);
// Serves one first process after another. Errors: the address cannot be listened at, or lies beyond
// loopback without `insecure`: nobody is asked who they are.
Status serve_at(const HostPort& address, bool insecure);

}  // namespace baton::bench
