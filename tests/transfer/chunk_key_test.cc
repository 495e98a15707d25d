#include "transfer/chunk_key.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

namespace baton {
namespace {

// Expected values were computed with Python's hashlib from the definition in the header.

Fingerprint smollm2() {
  return {.model = "SmolLM2-135M@a1b2",
          .dtype = "float32",
          .layers = 30,
          .planes = 2,
          .kv_heads = 3,
          .head_dim = 64,
          .rope = "base=100000;dim=64"};
}

std::vector<uint32_t> some_tokens(size_t count) {
  std::vector<uint32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<uint32_t>(i) * 2654435761u + 12345u;
  }
  return tokens;
}

TEST(ChunkKey, RootIsTheDefinedHash) {
  EXPECT_EQ(root_key(smollm2(), "", "").to_hex(),
            "ac2b93812c1acd057ba2ad8e5680a762296bd992e454a0e7e1d171d08b101b79");
  EXPECT_EQ(root_key(smollm2(), "lora-7", "tenant a").to_hex(),
            "10b4761005c048883f94e59fe7d9277dc2339016a6ea994309c61320d20e910c");
  EXPECT_EQ(root_key(Fingerprint{}, "", "").to_hex(),
            "2013d2450aab5ef0d969f4d45c0d79f2d06d123d4291b3c113bcbef21e46d542");
}

TEST(ChunkKey, NextIsTheDefinedHash) {
  const ChunkKey root = root_key(smollm2(), "", "");
  EXPECT_EQ(next_key(root, std::vector<uint32_t>{0x01020304u}).to_hex(),
            "c43badad01ae3b705bc849798662b18426788cc0357ec1ddac8a1fa7547e0168");
  EXPECT_EQ(next_key(root, {}).to_hex(),
            "709f690fbeb5103f47664ba1f1e2b99c47ba0e4b9a66b196074b78af8b66dd08");
}

TEST(ChunkKey, ChainIsTheDefinedHashes) {
  const std::vector<ChunkKey> keys = key_chain(root_key(smollm2(), "", ""), some_tokens(600), 256);
  ASSERT_EQ(keys.size(), 3u);
  EXPECT_EQ(keys[0].to_hex(), "ceaca0a45fa7a2334084b30b0046a2d286e0cb5d724a18c1df93b2c918fbcc58");
  EXPECT_EQ(keys[1].to_hex(), "8343eb06c47cd3b7d500f9f19296c938f6758f02191921e324d5cefbaa618b9a");
  EXPECT_EQ(keys[2].to_hex(), "20b82ae3dd7c57879752030c1e2c55734f75b8f7ac4686c9c97a628d2a3ff7d1");
}

TEST(ChunkKey, ChainHasOneKeyForEachChunkStarted) {
  const ChunkKey root = root_key(smollm2(), "", "");
  for (const auto& [tokens, chunks] : std::vector<std::pair<size_t, size_t>>{
           {0, 0}, {1, 1}, {255, 1}, {256, 1}, {257, 2}, {512, 2}, {513, 3}}) {
    EXPECT_EQ(key_chain(root, some_tokens(tokens), 256).size(), chunks) << tokens;
  }
}

TEST(ChunkKey, PromptsShareExactlyTheKeysOfTheirCommonWholeChunks) {
  const ChunkKey root = root_key(smollm2(), "", "");
  const std::vector<uint32_t> a = some_tokens(1024);
  std::vector<uint32_t> b = a;
  b[600] ^= 1;
  const auto keys_a = key_chain(root, a, 256);
  const auto keys_b = key_chain(root, b, 256);
  EXPECT_EQ(keys_a[0], keys_b[0]);
  EXPECT_EQ(keys_a[1], keys_b[1]);
  EXPECT_NE(keys_a[2], keys_b[2]);
  // The fourth chunk's tokens are equal, its prefix is not.
  EXPECT_NE(keys_a[3], keys_b[3]);
}

TEST(ChunkKey, TailChunkHasAKeyOfItsOwn) {
  const ChunkKey root = root_key(smollm2(), "", "");
  const auto whole = key_chain(root, some_tokens(512), 256);
  const auto tail = key_chain(root, some_tokens(511), 256);
  EXPECT_EQ(whole[0], tail[0]);
  EXPECT_NE(whole[1], tail[1]);
}

TEST(ChunkKey, WhateverDistinguishesTheBytesChangesTheRoot) {
  std::vector<Fingerprint> fingerprints(9, smollm2());
  fingerprints[1].model += "x";
  fingerprints[2].dtype = "bfloat16";
  fingerprints[3].layers = 31;
  fingerprints[4].planes = 1;
  fingerprints[5].kv_heads = 4;
  fingerprints[6].head_dim = 128;
  fingerprints[7].rope = "";
  fingerprints[8].opaque_layout = "packed";
  std::set<ChunkKey> roots;
  for (const Fingerprint& fingerprint : fingerprints) {
    roots.insert(root_key(fingerprint, "", ""));
  }
  roots.insert(root_key(smollm2(), "adapter", ""));
  roots.insert(root_key(smollm2(), "", "adapter"));
  // Lengths keep fields from running into each other.
  roots.insert(root_key(smollm2(), "ab", "c"));
  roots.insert(root_key(smollm2(), "a", "bc"));
  EXPECT_EQ(roots.size(), 13u);
}

TEST(ChunkKey, ManyThreadsGetTheSameKeys) {
  const std::vector<uint32_t> tokens = some_tokens(5000);
  const ChunkKey root = root_key(smollm2(), "", "");
  const auto expected = key_chain(root, tokens, 64);
  std::vector<std::vector<ChunkKey>> found(4);
  std::vector<std::thread> threads;
  for (auto& keys : found) {
    threads.emplace_back([&] { keys = key_chain(root, tokens, 64); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& keys : found) EXPECT_EQ(keys, expected);
}

TEST(Fingerprint, DifferenceNamesTheFirstFieldAndBothValues) {
  const Fingerprint ours = smollm2();
  EXPECT_EQ(ours.difference(ours), "");

  Fingerprint theirs = ours;
  theirs.opaque_layout = "packed";
  EXPECT_EQ(ours.difference(theirs), "opaque_layout is '' here and 'packed' there");
  theirs.rope = "base=10000";
  EXPECT_EQ(ours.difference(theirs), "rope is 'base=100000;dim=64' here and 'base=10000' there");
  theirs.head_dim = 128;
  EXPECT_EQ(ours.difference(theirs), "head_dim is '64' here and '128' there");
  theirs.kv_heads = 4;
  EXPECT_EQ(ours.difference(theirs), "kv_heads is '3' here and '4' there");
  theirs.planes = 1;
  EXPECT_EQ(ours.difference(theirs), "planes is '2' here and '1' there");
  theirs.layers = 32;
  EXPECT_EQ(ours.difference(theirs), "layers is '30' here and '32' there");
  theirs.dtype = "bfloat16";
  EXPECT_EQ(ours.difference(theirs), "dtype is 'float32' here and 'bfloat16' there");
  theirs.model = "other";
  EXPECT_EQ(ours.difference(theirs), "model is 'SmolLM2-135M@a1b2' here and 'other' there");
}

TEST(Fingerprint, CanonicalBytesAreTheFieldsInOrder) {
  const std::string canonical = smollm2().canonical();
  EXPECT_EQ(canonical.size(), 90u);
  EXPECT_EQ(canonical.substr(0, 21), std::string("\x11\0\0\0SmolLM2-135M@a1b2", 21));
  EXPECT_EQ(canonical.substr(32, 8), std::string("\x04\0\0\0\x1e\0\0\0", 8));
  EXPECT_EQ(canonical.substr(86), std::string(4, '\0'));
}

TEST(Fingerprint, DigestIsTheHashOfTheCanonicalBytes) {
  const FingerprintDigest found = digest(smollm2());
  EXPECT_EQ(ChunkKey{found}.to_hex(),
            "5fed9bd3b77ec235889df2bb50d807f9fee6a9044b503734b3c66848925531c7");
}

TEST(Tenant, IsTheSaltsHashAndNothingForNoSalt) {
  EXPECT_EQ(tenant_of("tenant-a"), 16248643848220682112u);
  EXPECT_EQ(tenant_of(""), 0u);
}

}  // namespace
}  // namespace baton
