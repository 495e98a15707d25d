#include "kernels/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "kernels/gather.h"
#include "kernels/scatter.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/vectors.h"

namespace baton {
namespace {

using cases::choose;
using cases::pick;
using cases::Rng;
using Bytes = std::vector<std::byte>;

// One block that is the payload itself.
KvSegment flat(std::byte* bytes, uint32_t size, const uint32_t* zero) {
  KvLayout layout;
  layout.block_tokens = 1;
  layout.opaque_block_bytes = size;
  layout.block_stride = size;
  return {bytes, layout, zero, 1};
}

TEST(ChecksumTest, VectorsHoldInEveryImplementation) {
  const uint32_t zero = 0;
  for (const vectors::Vector& v : vectors::kVectors) {
    SCOPED_TRACE(v.bytes);
    const ChecksumSeed seed = make_seed(vectors::identity(v.bytes));
    EXPECT_EQ(seed, (ChecksumSeed{v.seed_a, v.seed_b}));
    Bytes payload = vectors::payload(v.bytes);
    EXPECT_EQ(checksum(seed, payload.data(), v.bytes).value, v.checksum);
    EXPECT_EQ(reference::checksum(seed, payload.data(), v.bytes).value, v.checksum);
    if (v.bytes == 0) continue;
    for (const Isa isa : available_isas()) {
      SCOPED_TRACE(isa_name(isa));
      Bytes copy(v.bytes);
      const KvSegment from = flat(payload.data(), v.bytes, &zero);
      EXPECT_EQ(gather(from, PayloadOrder::kOpaque, seed, copy.data(), isa).value, v.checksum);
      Bytes back(v.bytes);
      const KvSegment to = flat(back.data(), v.bytes, &zero);
      EXPECT_EQ(scatter(to, PayloadOrder::kOpaque, seed, copy.data(), 0, isa).value, v.checksum);
      EXPECT_EQ(back, payload);
    }
  }
}

TEST(ChecksumTest, SeedDependsOnEveryField) {
  std::set<std::pair<uint64_t, uint64_t>> seeds;
  size_t made = 0;
  const auto add = [&](const SegmentIdentity& identity) {
    const ChecksumSeed seed = make_seed(identity);
    seeds.insert({seed.a, seed.b});
    ++made;
  };
  const SegmentIdentity base = vectors::identity(4096);
  add(base);
  for (size_t bit = 0; bit < 256; ++bit) {
    SegmentIdentity other = base;
    other.key[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    add(other);
  }
  for (uint32_t bit = 0; bit < 32; ++bit) {
    SegmentIdentity layer = base, group = base, heads = base, bytes = base;
    layer.layer ^= 1u << bit;
    group.kv_group ^= 1u << bit;
    heads.head_group ^= 1u << bit;
    bytes.bytes ^= uint64_t{1} << (bit * 2);
    add(layer), add(group), add(heads), add(bytes);
  }
  EXPECT_EQ(seeds.size(), made);
}

// What KV looks like, and what a weak mixing would trip over.
Bytes make_payload(Rng& rng, size_t size) {
  Bytes payload = cases::random_bytes(rng, size);
  switch (pick(rng, 0, 3)) {
    case 0:  // 16-bit floats near one another
      for (size_t i = 1; i < size; i += 2)
        payload[i] = static_cast<std::byte>(0x3c + pick(rng, 0, 3));
      break;
    case 1:  // mostly zero
      for (size_t i = 0; i < size; ++i) {
        if (i % 97 != 0) payload[i] = std::byte{0};
      }
      break;
    case 2:  // the same token over and over, but for one byte
      for (size_t i = 128; i < size; ++i) payload[i] = i % 128 == 5 ? payload[i] : payload[i - 128];
      break;
    default:
      break;
  }
  return payload;
}

void xor_bytes(Bytes& payload, size_t at, size_t size, const std::byte* with) {
  for (size_t i = 0; i < size; ++i) payload[at + i] ^= with[i];
}

enum Damage {
  kBit,
  kBits,
  kSwapStripes,
  kSwapPieces,
  kMoveTokens,
  kTwice,
  kZeroes,
  kStale,
  kRepeat,
  kDamages
};

// Damages the payload; whether it really differs is for the caller to see.
void damage(Rng& rng, Damage kind, Bytes& payload, const Bytes& foreign) {
  const size_t size = payload.size();
  const auto piece = [&](size_t most) { return pick(rng, 1, std::min(most, size)); };
  const auto place = [&](size_t length) { return pick(rng, 0, size - length); };
  switch (kind) {
    case kBit:
    case kBits:
      for (uint32_t n = kind == kBit ? 1 : pick(rng, 2, 9); n > 0; --n) {
        payload[place(1)] ^= static_cast<std::byte>(1u << pick(rng, 0, 7));
      }
      break;
    case kSwapStripes: {
      const size_t stripes = size / kStripeBytes;
      if (stripes < 2) break;
      const size_t i = pick(rng, 0, stripes - 1) * kStripeBytes;
      const size_t j = pick(rng, 0, stripes - 1) * kStripeBytes;
      if (i == j) break;
      std::swap_ranges(payload.begin() + i, payload.begin() + i + kStripeBytes,
                       payload.begin() + j);
      break;
    }
    case kSwapPieces: {
      const size_t length = choose<size_t>(rng, {4, 8, 64, 128, 1024});
      if (size < 2 * length) break;
      const size_t i = pick(rng, 0, size - 2 * length);
      const size_t j = pick(rng, i + length, size - length);
      std::swap_ranges(payload.begin() + i, payload.begin() + i + length, payload.begin() + j);
      break;
    }
    case kMoveTokens: {
      const size_t token = choose<size_t>(rng, {16, 64, 128, 256});
      if (size < 2 * token) break;
      const size_t count = pick(rng, 2, size / token);
      std::rotate(payload.begin(), payload.begin() + token, payload.begin() + count * token);
      break;
    }
    case kTwice: {  // the same difference at the same place of two stripes
      if (size < 2 * kStripeBytes) break;
      const size_t length = choose<size_t>(rng, {1, 4, 8, 64});
      const size_t at = pick(rng, 0, kStripeBytes - length);
      const size_t far = pick(rng, 1, size / kStripeBytes - 1) * kStripeBytes;
      xor_bytes(payload, at, length, foreign.data());
      xor_bytes(payload, at + far, length, foreign.data());
      break;
    }
    case kZeroes: {
      const size_t length = piece(2000), at = place(length);
      std::fill_n(payload.begin() + at, length, std::byte{0});
      break;
    }
    case kStale: {  // lines of another chunk left in place
      const size_t length = piece(64), at = place(length);
      std::copy_n(foreign.begin() + at, length, payload.begin() + at);
      break;
    }
    default: {  // kRepeat: a piece lands twice
      const size_t length = piece(1024), from = place(length), to = place(length);
      std::memmove(payload.data() + to, payload.data() + from, length);
      break;
    }
  }
}

#ifdef BATON_SANITIZED
constexpr int kCorruptions = 40'000;
#else
constexpr int kCorruptions = 1'000'000;
#endif

TEST(ChecksumTest, MissesNoCorruption) {
  Rng rng(11);
  int tried = 0;
  std::array<int, kDamages> by_kind{};
  while (tried < kCorruptions) {
    const size_t size = pick(rng, 100, 5000);
    const Bytes sent = make_payload(rng, size);
    const Bytes foreign = cases::random_bytes(rng, size);
    const ChecksumSeed seed = make_seed(vectors::identity(size));
    const Checksum expected = checksum(seed, sent.data(), size);
    Bytes got = sent;
    for (int n = 0; n < 2000; ++n) {
      const auto kind = static_cast<Damage>(n % kDamages);
      damage(rng, kind, got, foreign);
      if (got != sent) {
        ASSERT_NE(checksum(seed, got.data(), size), expected) << "damage " << kind;
        ++tried;
        ++by_kind[kind];
        std::memcpy(got.data(), sent.data(), size);
      }
    }
  }
  for (const int count : by_kind) EXPECT_GT(count, tried / 30);
}

TEST(ChecksumTest, AcceptsNoOtherIdentity) {
  Rng rng(12);
  for (int round = 0; round < kCorruptions / 20; ++round) {
    const size_t size = pick(rng, 2, 3000);
    const Bytes sent = make_payload(rng, size);
    const SegmentIdentity identity = vectors::identity(size);
    const Checksum expected = checksum(make_seed(identity), sent.data(), size);
    SegmentIdentity other = identity;
    switch (round % 6) {
      case 0:
        other.layer = pick(rng, 4, 200);
        break;
      case 1:
        other.kv_group ^= pick(rng, 1, 7);
        break;
      case 2:
        other.head_group ^= pick(rng, 1, 63);
        break;
      case 3:
        other.key[pick(rng, 0, 31)] ^= static_cast<uint8_t>(pick(rng, 1, 255));
        break;
      case 4:
        std::swap(other.layer, other.kv_group);
        break;
      default:
        other.bytes = pick(rng, 0, size - 1);
    }
    ASSERT_NE(checksum(make_seed(other), sent.data(), size), expected);
    // A payload cut short, or with zeros in place of its end, under the right and the wrong length.
    const size_t shorter = pick(rng, 0, size - 1);
    ASSERT_NE(checksum(make_seed(identity), sent.data(), shorter), expected);
    other = identity;
    other.bytes = shorter;
    ASSERT_NE(checksum(make_seed(other), sent.data(), shorter), expected);
    Bytes longer = sent;
    longer.resize(size + pick(rng, 1, 64));
    ASSERT_NE(checksum(make_seed(identity), longer.data(), longer.size()), expected);
  }
}

// Payloads that are all zero, of every length and under many identities, are as different as any.
TEST(ChecksumTest, ZerosOfEveryLengthDiffer) {
  const Bytes zeros(4096);
  std::set<uint64_t> sums;
  size_t made = 0;
  for (size_t size = 0; size <= zeros.size(); ++size, ++made) {
    sums.insert(checksum({1, 2}, zeros.data(), size).value);
  }
  for (uint32_t layer = 0; layer < 1000; ++layer, ++made) {
    SegmentIdentity identity;
    identity.layer = layer;
    sums.insert(checksum(make_seed(identity), zeros.data(), zeros.size()).value);
  }
  EXPECT_EQ(sums.size(), made);
}

}  // namespace
}  // namespace baton
