#include "perf/sizes.h"

#include <gtest/gtest.h>

namespace baton::bench {
namespace {

TEST(Sizes, BytesAsPeopleWriteThem) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096u);
  EXPECT_EQ(parse_bytes("64KiB").value(), 65536u);
  EXPECT_EQ(parse_bytes("2GiB").value(), uint64_t{2} << 30);
  EXPECT_EQ(parse_bytes("3MB").value(), 3'000'000u);
  for (const char* wrong : {"", "KiB", "4 KiB", "4kib", "-1", "1.5MiB", "0", "0KiB",
                            "99999999999999999999", "9999999999GiB"}) {
    const auto parsed = parse_bytes(wrong);
    ASSERT_FALSE(parsed.ok()) << wrong;
    EXPECT_EQ(parsed.status().code(), Code::kInvalidArgument);
  }
}

TEST(Sizes, Lists) {
  EXPECT_EQ(parse_byte_list("64KiB,4KiB").value(), (std::vector<uint64_t>{65536, 4096}));
  EXPECT_FALSE(parse_byte_list("64KiB,").ok());
  EXPECT_FALSE(parse_byte_list("").ok());
}

TEST(Sizes, ForPeople) {
  EXPECT_EQ(bytes_text(1 << 20), "1 MiB");
  EXPECT_EQ(bytes_text(4096), "4 KiB");
  EXPECT_EQ(bytes_text(100), "100 B");
}

TEST(Sizes, Models) {
  const ModelSizes llama = model_sizes("llama-3.1-8b").value();
  EXPECT_EQ(llama.layers, 32u);
  EXPECT_EQ(llama.block_bytes(), 65536u);
  EXPECT_EQ(model_sizes("deepseek-v3").value().token_bytes(), 1152u);
  const auto unknown = model_sizes("gpt-9");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("qwen3-235b"), std::string::npos);
}

TEST(Sizes, Layouts) {
  const KvLayout run = bench_layout("one-run", 65536, 16).value();
  EXPECT_EQ(segment_bytes(run, 16), 65536u);
  const KvLayout nhd = bench_layout("nhd", 65536, 16).value();
  const KvLayout hnd = bench_layout("hnd", 65536, 16).value();
  EXPECT_EQ(natural_order(nhd), PayloadOrder::kTokenHead);
  EXPECT_EQ(natural_order(hnd), PayloadOrder::kHeadToken);
  EXPECT_EQ(segment_bytes(nhd, 16), segment_bytes(hnd, 16));
  EXPECT_TRUE(bench_layout("opaque", 100, 10).value().opaque());
  EXPECT_FALSE(bench_layout("nhd", 48, 16).ok());
  EXPECT_FALSE(bench_layout("one-run", 100, 16).ok());
  EXPECT_FALSE(bench_layout("blocked", 65536, 16).ok());
}

}  // namespace
}  // namespace baton::bench
