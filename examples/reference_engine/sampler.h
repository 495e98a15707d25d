// Picks a token from logits. A pure function of (logits, parameters, position): the batch, the
// time and other requests play no part. Thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "transfer/base/status.h"

namespace baton::reference {

struct SamplingParams {
  float temperature = 0.0f;  // 0: greedy; up to 2
  float top_p = 1.0f;        // keep the smallest set of likeliest tokens with this mass; (0, 1]
  uint32_t top_k = 0;        // keep the k likeliest; 0: all
  uint64_t seed = 0;

  // kInvalidArgument names the field, its value and the range.
  Status validate() const;
};

// `position` is that of the token to be picked, so that a continued request goes on as it would
// have. Equal logits: the smaller id comes first. `logits` is not empty.
uint32_t sample_token(std::span<const float> logits, const SamplingParams& params,
                      uint64_t position);

}  // namespace baton::reference
