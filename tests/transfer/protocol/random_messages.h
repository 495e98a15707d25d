// Random messages within the codec's bounds.
#pragma once

#include <random>
#include <string>

#include "transfer/protocol/messages.h"

namespace baton::protocol {

// `type` is the index of the variant's alternative.
Message random_message(size_t type, std::mt19937_64& random);

}  // namespace baton::protocol
