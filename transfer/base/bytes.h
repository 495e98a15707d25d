// Sizes as people write them. A pure function, thread-safe.
#pragma once

#include <cstdint>
#include <string_view>

#include "transfer/base/status.h"

namespace baton {

// "4096", "64KiB", "1MiB", "2GiB"; powers of ten as "KB", "MB", "GB"; "0". kInvalidArgument naming
// the text otherwise, and above 2^50.
Result<uint64_t> parse_bytes(std::string_view text);

}  // namespace baton
