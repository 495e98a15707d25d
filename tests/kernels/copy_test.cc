// Gather and scatter, host code, every instruction set, against the plain reference.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "kernels/gather.h"
#include "kernels/scatter.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"

namespace baton {
namespace {

using cases::Memory;
using cases::pick;
using cases::Rng;

#ifdef BATON_SANITIZED
constexpr int kRounds = 60;
#else
constexpr int kRounds = 400;
#endif

constexpr PayloadOrder kStrided[] = {PayloadOrder::kTokenHead, PayloadOrder::kHeadToken};

ChecksumSeed random_seed(Rng& rng) { return {rng(), rng()}; }

class CopyTest : public testing::TestWithParam<Isa> {
 protected:
  void expect_gather(Memory& memory, PayloadOrder order, Rng& rng) {
    const KvSegment from = memory.segment();
    SCOPED_TRACE(cases::describe(from));
    ASSERT_TRUE(validate(from.layout).ok()) << validate(from.layout).to_string();
    const uint64_t bytes = segment_bytes(from.layout, from.tokens);
    const ChecksumSeed seed = random_seed(rng);
    std::vector<std::byte> expected(bytes);
    reference::gather(from, order, expected.data());
    std::vector<std::byte> payload = cases::random_bytes(rng, bytes);  // exact: ASan sees overruns
    const std::vector<std::byte> before = memory.bytes();
    const Checksum sum = gather(from, order, seed, payload.data(), GetParam());
    ASSERT_TRUE(payload == expected);
    ASSERT_TRUE(memory.bytes() == before);
    ASSERT_EQ(sum, reference::checksum(seed, expected.data(), bytes));
  }

  void expect_scatter(Memory& memory, PayloadOrder order, uint32_t first_token, Rng& rng) {
    const KvSegment to = memory.segment();
    SCOPED_TRACE(cases::describe(to) + ", from token " + std::to_string(first_token));
    const uint64_t bytes = segment_bytes(to.layout, to.tokens);
    const ChecksumSeed seed = random_seed(rng);
    const std::vector<std::byte> payload = cases::random_bytes(rng, bytes);
    const std::vector<std::byte> before = memory.bytes();
    reference::scatter(to, order, payload.data(), first_token);
    const std::vector<std::byte> expected = memory.bytes();
    std::copy(before.begin(), before.end(), memory.bytes().begin());
    const Checksum sum = scatter(to, order, seed, payload.data(), first_token, GetParam());
    // All of the memory: what lies between and around the tokens must not have changed.
    ASSERT_TRUE(memory.bytes() == expected);
    ASSERT_EQ(sum, reference::checksum(seed, payload.data(), bytes));
  }
};

TEST_P(CopyTest, GatherOfRandomLayouts) {
  Rng rng(1);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const cases::Geometry geometry = cases::random_geometry(rng);
    Memory memory(rng, cases::random_shape(rng, geometry), geometry.tokens);
    for (const PayloadOrder order : kStrided) expect_gather(memory, order, rng);
  }
}

TEST_P(CopyTest, ScatterIntoRandomLayouts) {
  Rng rng(2);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const cases::Geometry geometry = cases::random_geometry(rng);
    Memory memory(rng, cases::random_shape(rng, geometry), geometry.tokens);
    for (const PayloadOrder order : kStrided) {
      const uint32_t first = pick(rng, 0, 1) == 0 ? 0 : pick(rng, 0, geometry.tokens);
      expect_scatter(memory, order, first, rng);
    }
  }
}

TEST_P(CopyTest, OpaqueBlocks) {
  Rng rng(3);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const uint32_t tokens = pick(rng, 1, 100);
    Memory memory(rng, cases::random_opaque_shape(rng, tokens), tokens);
    expect_gather(memory, PayloadOrder::kOpaque, rng);
    const KvLayout layout = memory.segment().layout;
    uint32_t first = pick(rng, 0, tokens);
    if (layout.opaque_runs == 0 && first != tokens) first -= first % layout.block_tokens;
    expect_scatter(memory, PayloadOrder::kOpaque, first, rng);
  }
}

// What one engine writes another reads, whatever the two layouts, block sizes and block lists.
TEST_P(CopyTest, FromOneLayoutIntoAnother) {
  Rng rng(4);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const cases::Geometry geometry = cases::random_geometry(rng);
    Memory writer(rng, cases::random_shape(rng, geometry), geometry.tokens);
    Memory reader(rng, cases::random_shape(rng, geometry), geometry.tokens);
    const ChecksumSeed seed = random_seed(rng);
    const PayloadOrder order = natural_order(writer.segment().layout);
    std::vector<std::byte> payload(segment_bytes(writer.segment().layout, geometry.tokens));
    const Checksum sent = gather(writer.segment(), order, seed, payload.data(), GetParam());
    ASSERT_EQ(scatter(reader.segment(), order, seed, payload.data(), 0, GetParam()), sent);
    std::vector<std::byte> expected(payload.size()), got(payload.size());
    reference::gather(writer.segment(), PayloadOrder::kTokenHead, expected.data());
    reference::gather(reader.segment(), PayloadOrder::kTokenHead, got.data());
    ASSERT_TRUE(got == expected) << cases::describe(writer.segment()) << " into "
                                 << cases::describe(reader.segment());
  }
}

// A reader of two ranks takes from a writer of one: each head group travels by itself.
TEST_P(CopyTest, HeadGroups) {
  Rng rng(5);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    cases::Geometry geometry = cases::random_geometry(rng);
    geometry.heads = pick(rng, 2, 6);
    const uint32_t first = pick(rng, 0, geometry.heads - 1);
    const uint32_t heads = pick(rng, 1, geometry.heads - first);
    Memory writer(rng, cases::random_shape(rng, geometry), geometry.tokens);
    cases::Geometry part = geometry;
    part.heads = heads;
    Memory reader(rng, cases::random_shape(rng, part), geometry.tokens);

    KvSegment group = writer.segment();
    const auto [layout, offset] = head_group(group.layout, first, heads);
    group.layout = layout;
    group.base += offset;
    const PayloadOrder order = natural_order(layout);
    std::vector<std::byte> payload(segment_bytes(layout, geometry.tokens));
    const ChecksumSeed seed = random_seed(rng);
    const Checksum sent = gather(group, order, seed, payload.data(), GetParam());
    ASSERT_EQ(scatter(reader.segment(), order, seed, payload.data(), 0, GetParam()), sent);

    // All heads in head-major order: the group is a slice of each plane.
    std::vector<std::byte> all(segment_bytes(writer.segment().layout, geometry.tokens));
    std::vector<std::byte> got(payload.size());
    reference::gather(writer.segment(), PayloadOrder::kHeadToken, all.data());
    reference::gather(reader.segment(), PayloadOrder::kHeadToken, got.data());
    const size_t head = size_t{geometry.tokens} * geometry.head_bytes;
    for (uint32_t plane = 0; plane < geometry.planes; ++plane) {
      ASSERT_EQ(0, std::memcmp(got.data() + plane * heads * head,
                               all.data() + (plane * geometry.heads + first) * head, heads * head))
          << cases::describe(writer.segment());
    }
  }
}

// Long runs, aligned as engines align them: the paths that stream past the caches.
TEST_P(CopyTest, LargeSegments) {
  Rng rng(6);
  for (const uint32_t block_tokens : {2u, 8u, 32u, 48u}) {
    for (const uint32_t head_bytes : {256u, 264u}) {
      cases::Shape shape;
      shape.layout = {block_tokens, 2, 8, head_bytes};
      KvLayout& l = shape.layout;
      l.head_stride = head_bytes;
      l.token_stride = l.head_stride * l.heads;
      l.plane_stride = l.token_stride * block_tokens;
      l.block_stride = l.plane_stride * 2;
      const uint32_t tokens = 131;
      shape.block_count = blocks_for(l, tokens) + 3;
      shape.memory_bytes = l.block_stride * shape.block_count;
      Memory memory(rng, shape, tokens);
      expect_gather(memory, PayloadOrder::kTokenHead, rng);
      expect_scatter(memory, PayloadOrder::kTokenHead, 0, rng);
      expect_scatter(memory, PayloadOrder::kTokenHead, 50, rng);
      expect_scatter(memory, PayloadOrder::kHeadToken, 0, rng);
    }
  }
}

TEST_P(CopyTest, NoTokens) {
  Rng rng(7);
  Memory memory(rng, cases::random_shape(rng, {2, 2, 16, 5}), 5);
  KvSegment none = memory.segment();
  none.tokens = 0;
  const ChecksumSeed seed = random_seed(rng);
  const std::vector<std::byte> before = memory.bytes();
  const Checksum empty = reference::checksum(seed, nullptr, 0);
  EXPECT_EQ(gather(none, PayloadOrder::kTokenHead, seed, nullptr, GetParam()), empty);
  EXPECT_EQ(scatter(none, PayloadOrder::kHeadToken, seed, nullptr, 0, GetParam()), empty);
  EXPECT_TRUE(memory.bytes() == before);
}

// Another process keeps changing the payload while it is scattered, as a faulty sender might: the
// checksum must be that of the bytes which arrived in the blocks, whatever they are.
TEST_P(CopyTest, ChecksumIsThatOfTheBytesCopied) {
  Rng rng(8);
  for (const cases::Geometry geometry :
       {cases::Geometry{2, 4, 128, 300}, cases::Geometry{2, 3, 100, 300}}) {
    const cases::Shape shape = cases::random_shape(rng, geometry);
    Memory memory(rng, shape, geometry.tokens);
    const KvSegment to = memory.segment();
    const uint64_t bytes = segment_bytes(to.layout, to.tokens);
    void* shared = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(shared, MAP_FAILED);
    const pid_t writer = fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      auto* words = static_cast<volatile uint64_t*>(shared);
      for (uint64_t n = 1;; ++n) words[n * 7919 % (bytes / 8)] = n * 0x9e3779b97f4a7c15;
    }
    const auto* payload = static_cast<const std::byte*>(shared);
    const ChecksumSeed seed = random_seed(rng);
    std::vector<std::byte> arrived(bytes);
    int changing = 0;
    for (int round = 0; (round < kRounds / 10 || changing == 0) && !HasFailure(); ++round) {
      const Checksum sum = scatter(to, PayloadOrder::kTokenHead, seed, payload, 0, GetParam());
      reference::gather(to, PayloadOrder::kTokenHead, arrived.data());
      EXPECT_EQ(sum, reference::checksum(seed, arrived.data(), bytes));
      changing += std::memcmp(arrived.data(), payload, bytes) != 0;
    }
    kill(writer, SIGKILL);
    waitpid(writer, nullptr, 0);
    munmap(shared, bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Host, CopyTest, testing::ValuesIn(available_isas()),
                         [](const auto& info) { return isa_name(info.param); });

}  // namespace
}  // namespace baton
