#include "perf/bare_copy.h"

#include <algorithm>
#include <cstdint>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace baton::bench {
namespace {

constexpr size_t kPrefetchBytes = 4096;

#ifdef __x86_64__
__attribute__((target("avx2"))) void stream_avx2(std::byte* to, const std::byte* from,
                                                 size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) {
    const auto* in = reinterpret_cast<const __m256i*>(from + i);
    auto* out = reinterpret_cast<__m256i*>(to + i);
    const __m256i low = _mm256_loadu_si256(in);
    const __m256i high = _mm256_loadu_si256(in + 1);
    _mm256_stream_si256(out, low);
    _mm256_stream_si256(out + 1, high);
  }
}
#endif

void stream_copy(std::byte* to, const std::byte* from, size_t bytes) {
#ifdef __x86_64__
  static const bool usable = __builtin_cpu_supports("avx2");
  if (usable && bytes >= 1024 && bytes % 64 == 0 && reinterpret_cast<uintptr_t>(to) % 64 == 0)
    return stream_avx2(to, from, bytes);
#endif
  std::memcpy(to, from, bytes);
}

}  // namespace

BareRuns::BareRuns(const KvLayout& layout, PayloadOrder order) {
  if (layout.opaque()) {
    run_bytes = layout.opaque_block_bytes;
    return;
  }
  planes = layout.planes;
  plane_stride = layout.plane_stride;
  run_bytes = layout.head_bytes;
  tokens = layout.block_tokens;
  token_stride = layout.token_stride;
  if (order == PayloadOrder::kHeadToken) {
    outer_heads = layout.heads;
    outer_stride = layout.head_stride;
  } else if (layout.head_stride == layout.head_bytes) {
    run_bytes *= layout.heads;
  } else {
    inner_heads = layout.heads;
    inner_stride = layout.head_stride;
  }
  if (inner_heads == 1 && token_stride == static_cast<int64_t>(run_bytes)) {
    run_bytes *= tokens;
    tokens = 1;
  }
}

void bare_gather(const BareRuns& runs, const KvSegment& from, std::byte* payload) {
  for_each_bare_run(runs, from, payload,
                    [](std::byte* run, std::byte* at, const std::byte*, size_t bytes) {
                      std::memcpy(at, run, bytes);
                    });
}

void bare_scatter(const BareRuns& runs, const KvSegment& to, std::byte* payload) {
  for_each_bare_run(runs, to, payload,
                    [](std::byte* run, std::byte* at, const std::byte*, size_t bytes) {
                      std::memcpy(run, at, bytes);
                    });
}

void unchecked_gather(const BareRuns& runs, const KvSegment& from, std::byte* payload) {
  for_each_bare_run(runs, from, payload,
                    [](std::byte* run, std::byte* at, const std::byte* next, size_t bytes) {
                      if (next != nullptr)
                        for (size_t i = 0; i < std::min(bytes, kPrefetchBytes); i += 64)
                          __builtin_prefetch(next + i, 0, 2);
                      std::memcpy(at, run, bytes);
                    });
}

void unchecked_scatter(const BareRuns& runs, const KvSegment& to, std::byte* payload) {
  for_each_bare_run(runs, to, payload,
                    [](std::byte* run, std::byte* at, const std::byte*, size_t bytes) {
                      stream_copy(run, at, bytes);
                    });
#ifdef __x86_64__
  _mm_sfence();
#endif
}

}  // namespace baton::bench
