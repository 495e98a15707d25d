#include "transfer/tiers/nvme/slab_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>

#include "transfer/base/ids.h"
#include "transfer/base/token.h"

namespace baton::nvme {
namespace {

using ::testing::HasSubstr;

constexpr Uuid kUuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr uint64_t kSlabBytes = 64 * kBlockBytes;

Superblock superblock() { return {.layout = {kSlabBytes, 1000}, .uuid = kUuid}; }

ChunkHeader chunk_header(uint32_t layers = 3) {
  ChunkHeader header;
  header.generation = 0x0102030405060708;
  std::iota(header.id.key.bytes.begin(), header.id.key.bytes.end(), 0x20);
  header.id.kv_group = 0x1122;
  header.id.head_group = 0x3344;
  header.origin.tenant = 0x8877665544332211;
  std::iota(header.origin.fingerprint.begin(), header.origin.fingerprint.end(), 0x60);
  header.tokens = 256;
  header.order = PayloadOrder::kHeadToken;
  header.segment_bytes = 5000;
  for (uint32_t i = 0; i < layers; ++i) header.checksums.push_back({0xaabbccdd00000000 + i});
  return header;
}

Block encoded(const std::function<void(std::span<std::byte, kBlockBytes>)>& encode_into) {
  Block block;
  block.fill(std::byte{0xcc});
  encode_into(block);
  return block;
}
Block encoded(const Superblock& each) {
  return encoded([&](auto out) { encode(each, out); });
}
Block encoded(const ChunkHeader& each, uint32_t slab = 5) {
  return encoded([&](auto out) { encode(each, kUuid, slab, out); });
}

std::string hex(const Block& block, size_t from, size_t bytes) {
  return to_hex(block.data() + from, bytes);
}
std::string sha(const Block& block) {
  const Digest digest = sha256(block);
  return to_hex(digest.data(), 8);
}

// Whoever changes these bytes must change kFormatVersion.
TEST(SlabFormat, GoldenBytes) {
  ASSERT_EQ(kFormatVersion, 1u);
  const Block super = encoded(superblock());
  EXPECT_EQ(hex(super, 0, 48),
            "4241544f4e4b5653"  // "BATONKVS"
            "01000000"
            "01000000"
            "00100000"  // versions of format and keys, block
            "e8030000"
            "0000040000000000"                    // slabs, slab_bytes
            "0102030405060708090a0b0c0d0e0f10");  // uuid
  EXPECT_EQ(sha(super), "6d457b5b9028fe51");
  const Block chunk = encoded(chunk_header());
  EXPECT_EQ(hex(chunk, 0, 120),
            "01"
            "02"
            "0300"
            "88130000"          // chunk, order, layers, segment_bytes
            "0807060504030201"  // generation
            "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
            "2211"
            "4433"
            "00010000"
            "1122334455667788"  // groups, tokens, tenant
            "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
            "00000000ddccbbaa"
            "01000000ddccbbaa"
            "02000000ddccbbaa");
  EXPECT_EQ(sha(chunk), "e1238ba4e383506b");
  const Block tombstone =
      encoded([](auto out) { encode(Tombstone{0x0102030405060708}, kUuid, 5, out); });
  EXPECT_EQ(hex(tombstone, 0, 16),
            "02000000"
            "00000000"
            "0807060504030201");
  EXPECT_EQ(sha(tombstone), "dadf639bd294522c");
}

TEST(SlabFormat, WhatIsEncodedIsDecoded) {
  for (const uint32_t layers : {1u, 2u, 32u, kMaxLayers}) {
    ChunkHeader header = chunk_header(layers);
    const Block block = encoded(header, 7);
    const SlabHeader decoded = decode_header(block, kUuid, 7, layers * 2 * kBlockBytes);
    const auto* const chunk = std::get_if<ChunkHeader>(&decoded);
    ASSERT_NE(chunk, nullptr);
    EXPECT_EQ(chunk->generation, header.generation);
    EXPECT_EQ(chunk->id, header.id);
    EXPECT_EQ(chunk->origin, header.origin);
    EXPECT_EQ(chunk->tokens, header.tokens);
    EXPECT_EQ(chunk->order, header.order);
    EXPECT_EQ(chunk->segment_bytes, header.segment_bytes);
    EXPECT_EQ(chunk->checksums, header.checksums);
  }
  const Block tombstone = encoded([](auto out) { encode(Tombstone{9}, kUuid, 5, out); });
  const SlabHeader decoded = decode_header(tombstone, kUuid, 5, kSlabBytes);
  ASSERT_TRUE(std::holds_alternative<Tombstone>(decoded));
  EXPECT_EQ(std::get<Tombstone>(decoded).generation, 9u);
  const auto super = decode_superblock(encoded(superblock()));
  ASSERT_TRUE(super.ok()) << super.status().to_string();
  EXPECT_EQ(super->layout, superblock().layout);
  EXPECT_EQ(super->uuid, kUuid);
}

TEST(SlabFormat, NoBitOfAHeaderMayChange) {
  const Block whole = encoded(chunk_header());
  for (size_t bit = 0; bit < kBlockBytes * 8; ++bit) {
    Block damaged = whole;
    damaged[bit / 8] ^= std::byte(1 << bit % 8);
    ASSERT_TRUE(std::holds_alternative<NoHeader>(decode_header(damaged, kUuid, 5, kSlabBytes)))
        << "bit " << bit;
  }
}

TEST(SlabFormat, NoBitOfASuperblockMayChange) {
  const Block whole = encoded(superblock());
  for (size_t bit = 0; bit < kBlockBytes * 8; ++bit) {
    Block damaged = whole;
    damaged[bit / 8] ^= std::byte(1 << bit % 8);
    const auto super = decode_superblock(damaged);
    ASSERT_FALSE(super.ok()) << "bit " << bit;
    ASSERT_EQ(super.status().code(), Code::kRefused);
  }
}

TEST(SlabFormat, AHeaderBelongsToItsSlabAndItsFormatting) {
  const Block block = encoded(chunk_header(), 5);
  Uuid other = kUuid;
  other[3] ^= 1;
  EXPECT_TRUE(std::holds_alternative<ChunkHeader>(decode_header(block, kUuid, 5, kSlabBytes)));
  EXPECT_TRUE(std::holds_alternative<NoHeader>(decode_header(block, kUuid, 6, kSlabBytes)));
  EXPECT_TRUE(std::holds_alternative<NoHeader>(decode_header(block, other, 5, kSlabBytes)));
}

TEST(SlabFormat, AHeaderThatIsTornIsNone) {
  const Block older = encoded(chunk_header(40));
  ChunkHeader next = chunk_header(40);
  next.generation += 1;
  next.id.key.bytes[0] ^= 0xff;
  const Block newer = encoded(next);
  for (size_t sectors = 1; sectors < 8; ++sectors) {
    Block torn = older;
    std::memcpy(torn.data(), newer.data(), sectors * 512);
    EXPECT_TRUE(std::holds_alternative<NoHeader>(decode_header(torn, kUuid, 5, kSlabBytes)));
  }
  EXPECT_TRUE(std::holds_alternative<NoHeader>(decode_header(Block{}, kUuid, 5, kSlabBytes)));
}

// Checksums are no defence against our own faults: what could not be true is not believed.
TEST(SlabFormat, AChunkLargerThanItsSlabIsNone) {
  const Block block = encoded(chunk_header(3));  // 3 * 2 blocks
  EXPECT_TRUE(std::holds_alternative<ChunkHeader>(decode_header(block, kUuid, 5, 6 * kBlockBytes)));
  EXPECT_TRUE(std::holds_alternative<NoHeader>(decode_header(block, kUuid, 5, 5 * kBlockBytes)));
}

TEST(SlabFormat, AnotherVersionIsRefusedNamingBoth) {
  Block block = encoded(superblock());
  block[8] = std::byte{2};
  const auto super = decode_superblock(block);
  EXPECT_EQ(super.status().code(), Code::kRefused);
  EXPECT_THAT(super.status().message(), HasSubstr("version is 1 here and 2 on the device"));
  Block foreign{};
  std::memcpy(foreign.data(),
              "\x7f"
              "ELF\2\1\1",
              8);
  EXPECT_THAT(decode_superblock(foreign).status().message(),
              HasSubstr("begins with 7f454c4602010100, chunks of Baton with 4241544f4e4b5653"));
}

TEST(SlabFormat, RandomBytesAreNothing) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 1000; ++round) {
    Block block;
    for (size_t at = 0; at < kBlockBytes; at += 8) {
      const uint64_t word = random();
      std::memcpy(block.data() + at, &word, 8);
    }
    block[0] = std::byte{1};
    ASSERT_TRUE(std::holds_alternative<NoHeader>(decode_header(block, kUuid, 5, kSlabBytes)));
    ASSERT_FALSE(decode_superblock(block).ok());
  }
}

TEST(SlabLayout, RegionsFollowEachOtherWithinTheDevice) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 2000; ++round) {
    const uint64_t slab_bytes = kBlockBytes * (1 + random() % 5000);
    const uint64_t device = random() % (uint64_t{1} << (20 + random() % 25));
    const auto layout = SlabLayout::fit(device, slab_bytes);
    if (!layout.ok()) {
      ASSERT_GT((SlabLayout{slab_bytes, 1}).bytes(), device);
      continue;
    }
    ASSERT_GE(layout->header_offset(0), kBlockBytes);
    ASSERT_GE(layout->data_offset(0), layout->header_offset(layout->slabs));
    ASSERT_EQ(layout->data_offset(0) % 65536, 0u);
    ASSERT_EQ(layout->data_offset(1) - layout->data_offset(0), slab_bytes);
    ASSERT_LE(layout->bytes(), device);
    SlabLayout more = *layout;
    ++more.slabs;
    ASSERT_TRUE(more.bytes() > device || layout->slabs > UINT32_MAX - 20);
  }
  EXPECT_EQ(SlabLayout::fit(1 << 20, 5000).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(SlabLayout::fit(1 << 20, 0).status().code(), Code::kInvalidArgument);
  EXPECT_THAT(SlabLayout::fit(4096, 8192).status().message(), HasSubstr("needs 73728"));
}

}  // namespace
}  // namespace baton::nvme
