#include "kernels/kv_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton {
namespace {

using testing::HasSubstr;

// [block][plane][token][head][dim] and [block][plane][head][token][dim]: 16 tokens, 8 heads of 256.
KvLayout token_head() { return {16, 2, 8, 256, 2 * 16 * 8 * 256, 16 * 8 * 256, 256, 8 * 256}; }
KvLayout head_token() { return {16, 2, 8, 256, 2 * 16 * 8 * 256, 16 * 8 * 256, 16 * 256, 256}; }

KvLayout opaque(uint32_t runs, uint32_t token_bytes, uint64_t block_bytes) {
  KvLayout layout;
  layout.block_tokens = 16;
  layout.opaque_block_bytes = block_bytes;
  layout.opaque_runs = runs;
  layout.opaque_token_bytes = token_bytes;
  layout.block_stride = static_cast<int64_t>(block_bytes);
  return layout;
}

void expect_refused(const KvLayout& layout, const std::string& what, const std::string& value) {
  const Status status = validate(layout);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(what));
  EXPECT_THAT(status.message(), HasSubstr(value));
}

TEST(KvLayoutTest, AcceptsWhatEnginesUse) {
  EXPECT_TRUE(validate(token_head()).ok());
  EXPECT_TRUE(validate(head_token()).ok());
  KvLayout planes_outside = token_head();  // [plane][block][token][head][dim]
  planes_outside.block_stride = 16 * 8 * 256;
  planes_outside.plane_stride = planes_outside.block_stride * 1000;
  EXPECT_TRUE(validate(planes_outside).ok());
  const KvLayout latent{64, 1, 1, 1152, 64 * 1152, 0, 0, 1152};  // strides of ones do not count
  EXPECT_TRUE(validate(latent).ok());
  EXPECT_TRUE(validate(opaque(0, 0, 12345)).ok());
  EXPECT_TRUE(validate(opaque(3, 7, 3 * 16 * 7)).ok());
  KvLayout padded = token_head();  // rows and blocks with gaps
  padded.token_stride += 64;
  padded.plane_stride += 16 * 64;
  padded.block_stride += 2 * 16 * 64 + 4096;
  EXPECT_TRUE(validate(padded).ok());
}

TEST(KvLayoutTest, RefusesZeroSizes) {
  expect_refused({}, "block_tokens is zero", "block_tokens 0");
  for (uint32_t KvLayout::*field : {&KvLayout::planes, &KvLayout::heads, &KvLayout::head_bytes}) {
    KvLayout layout = token_head();
    layout.*field = 0;
    expect_refused(layout, "planes, heads or head_bytes is zero", "head_bytes");
  }
}

TEST(KvLayoutTest, RefusesNegativeStrides) {
  for (int64_t KvLayout::*field : {&KvLayout::block_stride, &KvLayout::plane_stride,
                                   &KvLayout::head_stride, &KvLayout::token_stride}) {
    KvLayout layout = token_head();
    layout.*field = -256;
    expect_refused(layout, "a stride is negative", "-256");
  }
}

TEST(KvLayoutTest, RefusesOverlap) {
  KvLayout layout = token_head();
  layout.head_stride = 255;
  expect_refused(layout, "heads overlap", "head 255");
  layout = token_head();
  layout.token_stride = 8 * 256 - 1;
  expect_refused(layout, "tokens overlap", "token 2047");
  layout = token_head();
  layout.token_stride = 0;
  expect_refused(layout, "tokens overlap", "token 0");
  layout = token_head();
  layout.plane_stride = 16 * 8 * 256 - 16;
  expect_refused(layout, "planes overlap", "plane 32752");
  layout = token_head();
  layout.block_stride = 2 * 16 * 8 * 256 - 1;
  expect_refused(layout, "blocks overlap", "block 65535");
  layout = token_head();
  layout.plane_stride = layout.block_stride = 16 * 8 * 256;  // block 1's keys are block 0's values
  expect_refused(layout, "blocks overlap", "block 32768");
  layout = token_head();
  layout.plane_stride = layout.token_stride;
  expect_refused(layout, "overlap", "plane 2048");
}

TEST(KvLayoutTest, RefusesSizesThatOverflow) {
  KvLayout layout = token_head();
  layout.heads = layout.planes = layout.block_tokens = layout.head_bytes = 0xffffffff;
  expect_refused(layout, "larger than 2 GiB", "heads 4294967295");
  layout = token_head();
  layout.plane_stride = INT64_MAX;  // far beyond, but arithmetic must hold
  EXPECT_TRUE(validate(layout).ok());
  expect_refused(opaque(0, 0, kMaxBlockBytes + 1), "larger than 2 GiB", "2147483649");
}

TEST(KvLayoutTest, RefusesOpaqueNonsense) {
  expect_refused(opaque(3, 0, 336), "go together", "opaque_runs 3");
  expect_refused(opaque(0, 7, 336), "go together", "opaque_token_bytes 7");
  expect_refused(opaque(3, 7, 337), "is not the block's size", "opaque_block_bytes 337");
  KvLayout layout = opaque(0, 0, 1000);
  layout.block_stride = 999;
  expect_refused(layout, "blocks overlap", "block_stride 999");
  layout = token_head();
  layout.opaque_runs = 2;
  expect_refused(layout, "without opaque_block_bytes", "");
}

TEST(KvLayoutTest, SegmentBytes) {
  EXPECT_EQ(segment_bytes(token_head(), 256), uint64_t{1} << 20);
  EXPECT_EQ(segment_bytes(token_head(), 17), 17u * 2 * 8 * 256);
  EXPECT_EQ(segment_bytes(token_head(), 0), 0u);
  EXPECT_EQ(segment_bytes(opaque(0, 0, 1000), 17), 2000u);
  EXPECT_EQ(segment_bytes(opaque(0, 0, 1000), 16), 1000u);
  EXPECT_EQ(blocks_for(token_head(), UINT32_MAX), UINT32_MAX / 16 + 1);
}

TEST(KvLayoutTest, NaturalOrder) {
  EXPECT_EQ(natural_order(token_head()), PayloadOrder::kTokenHead);
  EXPECT_EQ(natural_order(head_token()), PayloadOrder::kHeadToken);
  EXPECT_EQ(natural_order(opaque(0, 0, 1000)), PayloadOrder::kOpaque);
  KvLayout one_head = head_token();
  one_head.heads = 1;
  EXPECT_EQ(natural_order(one_head), PayloadOrder::kTokenHead);
  // Two heads of a token-major block of eight still lie side by side.
  EXPECT_EQ(natural_order(head_group(token_head(), 2, 2).first), PayloadOrder::kTokenHead);
  KvLayout gaps = head_token();  // neither heads nor tokens adjoin
  gaps.token_stride = 300;
  gaps.head_stride = 16 * 300;
  EXPECT_EQ(natural_order(gaps), PayloadOrder::kTokenHead);
}

TEST(KvLayoutTest, HeadGroup) {
  const auto [layout, offset] = head_group(head_token(), 6, 2);
  EXPECT_EQ(layout.heads, 2u);
  EXPECT_EQ(offset, 6 * 16 * 256);
  EXPECT_TRUE(validate(layout).ok());
  KvLayout expected = head_token();
  expected.heads = 2;
  EXPECT_EQ(layout, expected);
}

TEST(KvLayoutDeathTest, HeadGroupOutsideTheLayout) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(head_group(token_head(), 7, 2), "heads \\[7, \\+2\\) of a layout of 8");
  EXPECT_DEATH(head_group(opaque(0, 0, 1000), 0, 1), "opaque");
}

}  // namespace
}  // namespace baton
