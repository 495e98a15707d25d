#include "transfer/tcp/runs.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/gather.h"
#include "tests/fakes/kv_engine.h"

namespace baton::tcp {
namespace {

// A segment in scattered blocks, read through a cursor in pieces of any size: the payload and the
// checksum of a gather.
TEST(TcpRunsTest, ACursorGivesThePayloadOfAGather) {
  std::mt19937_64 random(1);
  for (const bool heads_first : {false, true}) {
    fakes::KvEngine engine({.layers = 1, .heads = 2, .head_bytes = 72, .heads_first = heads_first});
    const uint32_t tokens = 500;
    const auto blocks = engine.allocate(tokens);
    engine.fill(0, blocks, 0, tokens, 3);
    const KvMemory kv = engine.kv();
    const SegmentPlace place{{kv.layer_base[0], kv.layout, blocks.data(), tokens},
                             natural_order(kv.layout),
                             make_seed({.bytes = 5})};
    const uint64_t bytes = segment_bytes(kv.layout, tokens);
    std::vector<std::byte> expected(bytes), read;
    const Checksum checksum = gather(place.blocks, place.order, place.seed, expected.data());

    const Runs runs(place);
    ASSERT_EQ(runs.bytes(), bytes);
    RunCursor next, summed;
    ChecksumPass pass(place.seed, bytes);
    while (next.position() < bytes) {
      std::vector<iovec> list;
      const uint64_t listed = next.list(runs, 1 + random() % 9000, 1 + random() % 5, list);
      ASSERT_GT(listed, 0u);
      // As after a system call that took a part of it.
      uint64_t taken = 1 + random() % listed;
      next.advance(runs, taken);
      for (const iovec& piece : list) {
        const auto* from = static_cast<const std::byte*>(piece.iov_base);
        const uint64_t length = std::min<uint64_t>(piece.iov_len, taken);
        read.insert(read.end(), from, from + length);
        taken -= length;
      }
      summed.sum(runs, next.position(), pass);
      ASSERT_EQ(summed.position(), next.position());
    }
    EXPECT_EQ(read, expected);
    EXPECT_EQ(pass.finish(), checksum);
    std::vector<iovec> none;
    EXPECT_EQ(next.list(runs, 100, 5, none), 0u);
  }
}

TEST(TcpRunsTest, BlocksThatLieSideBySideAreOneRun) {
  std::vector<std::byte> memory(4 * 1024);
  KvLayout layout{.block_tokens = 16, .planes = 1, .heads = 1, .head_bytes = 64};
  layout.block_stride = 1024;
  layout.plane_stride = 1024;
  layout.head_stride = 64;
  layout.token_stride = 64;
  const uint32_t blocks[] = {1, 2, 0};
  const Runs runs(SegmentPlace{{memory.data(), layout, blocks, 48}, natural_order(layout), {}});
  ASSERT_EQ(runs.pieces().size(), 2u);
  EXPECT_EQ(runs.pieces()[0].iov_base, memory.data() + 1024);
  EXPECT_EQ(runs.pieces()[0].iov_len, 2048u);
  EXPECT_EQ(runs.pieces()[1].iov_len, 1024u);
}

}  // namespace
}  // namespace baton::tcp
