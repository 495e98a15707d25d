#include "kernels/stripes.h"

#include <bit>
#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace baton {
namespace {

static_assert(std::endian::native == std::endian::little, "the checksum reads words as they lie");

enum class Mode { kCopy, kStream, kSum };

// While a stripe is read the one so many ahead is asked for, into the second cache: within the run,
// as the hardware's own prefetch begins anew at each page, and on into the next run.
constexpr size_t kPrefetchStripes = 4;

const std::byte* prefetch_of(const StripeRun& run, size_t stripe) {
  const size_t ahead = stripe + kPrefetchStripes;
  if (ahead < run.stripes) return run.from + ahead * kStripeBytes;
  const size_t next = run.stripes < kPrefetchStripes ? stripe : ahead - run.stripes;
  return run.next != nullptr && next < kPrefetchStripes ? run.next + next * kStripeBytes : nullptr;
}

template <Mode mode>
uint64_t scalar_stripes(const ChecksumSeed& seed, const StripeRun& run) {
  uint64_t sum = 0;
  for (size_t s = 0; s < run.stripes; ++s) {
    NhPair nh;
    for (size_t j = 0; j < kStripeWords; ++j) {
      const size_t offset = s * kStripeBytes + j * sizeof(uint64_t);
      uint64_t word;
      std::memcpy(&word, run.from + offset, sizeof word);
      asm volatile("" : "+r"(word));  // this load and no other
      if constexpr (mode != Mode::kSum) std::memcpy(run.to + offset, &word, sizeof word);
      nh.h1 += nh_product(word, kNhKeys.first[j]);
      nh.h2 += nh_product(word, kNhKeys.second[j]);
    }
    sum += stripe_value(seed, run.position + s, nh);
  }
  return sum;
}

#ifdef __x86_64__

#define BATON_AVX2 __attribute__((target("avx2")))
#define BATON_AVX512 __attribute__((target("avx512f")))

// Both accumulators' lanes summed up at once: interleaved, then halved until one pair is left.
BATON_AVX2 inline NhPair lanes_sum(__m256i h1, __m256i h2) {
  const __m256i pairs =
      _mm256_add_epi64(_mm256_unpacklo_epi64(h1, h2), _mm256_unpackhi_epi64(h1, h2));
  const __m128i pair =
      _mm_add_epi64(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  return {static_cast<uint64_t>(_mm_cvtsi128_si64(pair)),
          static_cast<uint64_t>(_mm_extract_epi64(pair, 1))};
}

BATON_AVX512 inline NhPair lanes_sum(__m512i h1, __m512i h2) {
  const __m512i pairs =
      _mm512_add_epi64(_mm512_unpacklo_epi64(h1, h2), _mm512_unpackhi_epi64(h1, h2));
  const __m256i half =
      _mm256_add_epi64(_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64(pairs, 1));
  const __m128i pair =
      _mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  return {static_cast<uint64_t>(_mm_cvtsi128_si64(pair)),
          static_cast<uint64_t>(_mm_extract_epi64(pair, 1))};
}

template <Mode mode>
BATON_AVX2 uint64_t avx2_stripes(const ChecksumSeed& seed, const StripeRun& run) {
  uint64_t sum = 0;
  for (size_t s = 0; s < run.stripes; ++s) {
    const std::byte* from = run.from + s * kStripeBytes;
    const std::byte* ahead = prefetch_of(run, s);
    __m256i h1 = _mm256_setzero_si256();
    __m256i h2 = _mm256_setzero_si256();
    for (size_t offset = 0; offset < kStripeBytes; offset += sizeof(__m256i)) {
      if (ahead != nullptr && offset % 64 == 0) _mm_prefetch(ahead + offset, _MM_HINT_T1);
      __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + offset));
      asm volatile("" : "+x"(words));  // this load and no other
      if constexpr (mode != Mode::kSum) {
        auto* to = reinterpret_cast<__m256i*>(run.to + s * kStripeBytes + offset);
        mode == Mode::kStream ? _mm256_stream_si256(to, words) : _mm256_storeu_si256(to, words);
      }
      const size_t j = offset / sizeof(uint64_t);
      const __m256i x = _mm256_add_epi32(
          words, _mm256_load_si256(reinterpret_cast<const __m256i*>(kNhKeys.first + j)));
      const __m256i y = _mm256_add_epi32(
          words, _mm256_load_si256(reinterpret_cast<const __m256i*>(kNhKeys.second + j)));
      h1 = _mm256_add_epi64(h1, _mm256_mul_epu32(x, _mm256_srli_epi64(x, 32)));
      h2 = _mm256_add_epi64(h2, _mm256_mul_epu32(y, _mm256_srli_epi64(y, 32)));
    }
    sum += stripe_value(seed, run.position + s, lanes_sum(h1, h2));
  }
  return sum;
}

template <Mode mode>
BATON_AVX512 uint64_t avx512_stripes(const ChecksumSeed& seed, const StripeRun& run) {
  uint64_t sum = 0;
  for (size_t s = 0; s < run.stripes; ++s) {
    const std::byte* from = run.from + s * kStripeBytes;
    const std::byte* ahead = prefetch_of(run, s);
    __m512i h1 = _mm512_setzero_si512();
    __m512i h2 = _mm512_setzero_si512();
    for (size_t offset = 0; offset < kStripeBytes; offset += sizeof(__m512i)) {
      if (ahead != nullptr) _mm_prefetch(ahead + offset, _MM_HINT_T1);
      __m512i words = _mm512_loadu_si512(from + offset);
      asm volatile("" : "+v"(words));  // this load and no other
      if constexpr (mode != Mode::kSum) {
        std::byte* to = run.to + s * kStripeBytes + offset;
        if constexpr (mode == Mode::kStream) {
          _mm512_stream_si512(reinterpret_cast<__m512i*>(to), words);
        } else {
          _mm512_storeu_si512(to, words);
        }
      }
      const size_t j = offset / sizeof(uint64_t);
      const __m512i x = _mm512_add_epi32(words, _mm512_load_si512(kNhKeys.first + j));
      const __m512i y = _mm512_add_epi32(words, _mm512_load_si512(kNhKeys.second + j));
      h1 = _mm512_add_epi64(h1, _mm512_mul_epu32(x, _mm512_srli_epi64(x, 32)));
      h2 = _mm512_add_epi64(h2, _mm512_mul_epu32(y, _mm512_srli_epi64(y, 32)));
    }
    sum += stripe_value(seed, run.position + s, lanes_sum(h1, h2));
  }
  return sum;
}

template <auto copy, auto stream>
uint64_t stream_if_aligned(const ChecksumSeed& seed, const StripeRun& run) {
  const bool aligned = reinterpret_cast<uintptr_t>(run.to) % 64 == 0;
  return aligned ? stream(seed, run) : copy(seed, run);
}

constexpr StripeOps kAvx2Ops{
    avx2_stripes<Mode::kCopy>,
    stream_if_aligned<avx2_stripes<Mode::kCopy>, avx2_stripes<Mode::kStream>>,
    avx2_stripes<Mode::kSum>};
constexpr StripeOps kAvx512Ops{
    avx512_stripes<Mode::kCopy>,
    stream_if_aligned<avx512_stripes<Mode::kCopy>, avx512_stripes<Mode::kStream>>,
    avx512_stripes<Mode::kSum>};

#endif  // __x86_64__

constexpr StripeOps kScalarOps{scalar_stripes<Mode::kCopy>, scalar_stripes<Mode::kCopy>,
                               scalar_stripes<Mode::kSum>};

std::vector<Isa> detect_isas() {
  std::vector<Isa> isas{Isa::kScalar};
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) isas.push_back(Isa::kAvx2);
  if (__builtin_cpu_supports("avx512f")) isas.push_back(Isa::kAvx512);
#endif
  return isas;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "?";
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = detect_isas();
  return isas;
}

const StripeOps& stripe_ops(Isa isa) {
#ifdef __x86_64__
  if (isa == Isa::kAvx512) return kAvx512Ops;
  if (isa == Isa::kAvx2) return kAvx2Ops;
#endif
  (void)isa;
  return kScalarOps;
}

void stream_fence() {
#ifdef __x86_64__
  _mm_sfence();
#endif
}

uint64_t tail_value(const ChecksumSeed& seed, std::byte* stage, size_t bytes, uint64_t position) {
  const size_t padded = (bytes + kTailBytes - 1) / kTailBytes * kTailBytes;
  std::memset(stage + bytes, 0, padded - bytes);
  NhPair nh;
  for (size_t j = 0; j < padded / sizeof(uint64_t); ++j) {
    uint64_t word;
    std::memcpy(&word, stage + j * sizeof(uint64_t), sizeof word);
    nh.h1 += nh_product(word, kNhKeys.first[j]);
    nh.h2 += nh_product(word, kNhKeys.second[j]);
  }
  return stripe_value(seed, position, nh);
}

}  // namespace baton
