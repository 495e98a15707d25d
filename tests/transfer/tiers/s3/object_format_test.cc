#include "transfer/tiers/s3/object_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "transfer/base/ids.h"
#include "transfer/base/token.h"

namespace baton::s3 {
namespace {

using ::testing::HasSubstr;

class ObjectFormat : public ::testing::Test {
 protected:
  // Of a slot that holds nothing: a header is of what is said of it.
  Chunk chunk(uint32_t layers = 2, size_t layer_bytes = 4096) {
    auto arena = Arena::create({.bytes = 64});
    pool_ = std::move(SlotPool::create(std::move(arena).value(), 64).value());
    Chunk chunk{.id = {.kv_group = 3, .head_group = 65535},
                .tokens = 17,
                .order = PayloadOrder::kTokenHead,
                .segment_bytes = layer_bytes,
                .slot = *pool_->allocate()};
    for (uint8_t i = 0; i < 32; ++i) {
      chunk.id.key.bytes[i] = i;
      chunk.origin.fingerprint[i] = static_cast<uint8_t>(255 - i);
    }
    chunk.origin.tenant = 0x0123456789abcdef;
    for (uint32_t i = 0; i < layers; ++i) chunk.checksums.push_back({0xfedcba9876543210u + i});
    return chunk;
  }
  // As encode_header() but for the slot's size.
  Header encoded(Chunk chunk) {
    const size_t bytes = chunk.segment_bytes * chunk.checksums.size();
    auto arena = Arena::create({.bytes = bytes, .prefault = false});
    auto pool = SlotPool::create(std::move(arena).value(), bytes);
    chunk.slot = *(*pool)->allocate();
    const auto header = encode_header(chunk);
    EXPECT_TRUE(header.ok()) << header.status().to_string();
    return *header;
  }
  static std::string json_of(const Header& header) {
    uint32_t bytes;
    std::memcpy(&bytes, header.data() + 16, 4);
    return std::string(reinterpret_cast<const char*>(header.data()) + 20, bytes);
  }
  // Makes the digest right again: what then is wrong is wrong by itself.
  static void seal(Header& header) {
    const Digest digest = sha256(std::span(header).first(kHeaderBytes - 32));
    std::memcpy(header.data() + kHeaderBytes - 32, digest.data(), 32);
  }

  std::shared_ptr<SlotPool> pool_;
};

// The digest comes from Python: struct.pack("<8sIII", b"BATONKV\n", 1, 16384, len(json)) + json,
// padded with zeros to 16,352, through hashlib.
TEST_F(ObjectFormat, IsWhatItIsWrittenToBe) {
  const Header header = encoded(chunk());
  EXPECT_EQ(json_of(header),
            R"({"key":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",)"
            R"("kv_group":3,"head_group":65535,)"
            R"("fingerprint":"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0",)"
            R"("tenant":"0123456789abcdef","tokens":17,"layers":2,"layer_bytes":4096,)"
            R"("payload_order":"plane,token,head,dim","layer_offsets":[16384,20480],)"
            R"("layer_checksums":["fedcba9876543210","fedcba9876543211"]})");
  EXPECT_EQ(std::memcmp(header.data(), "BATONKV\n\1\0\0\0\0\100\0\0", 16), 0);
  EXPECT_EQ(to_hex(header.data() + kHeaderBytes - 32, 32),
            "17bc378b0fdd11b04eaad8c92cd2a2f404ed6752f822bc5737058fc0edfe255e");
}

TEST_F(ObjectFormat, SaysOfAChunkAllThatItWas) {
  for (const PayloadOrder order :
       {PayloadOrder::kTokenHead, PayloadOrder::kHeadToken, PayloadOrder::kOpaque}) {
    Chunk written = chunk(5, 999);
    written.order = order;
    const auto read = decode_header(encoded(written));
    ASSERT_TRUE(read.ok()) << read.status().to_string();
    EXPECT_EQ(read->id, written.id);
    EXPECT_EQ(read->origin, written.origin);
    EXPECT_EQ(read->tokens, written.tokens);
    EXPECT_EQ(read->order, order);
    EXPECT_EQ(read->segment_bytes, written.segment_bytes);
    EXPECT_EQ(read->checksums, written.checksums);
    EXPECT_FALSE(read->slot);
  }
}

TEST_F(ObjectFormat, TheLargestHeaderFits) {
  Chunk largest = chunk(kMaxLayers, 256 << 10);
  largest.tokens = UINT32_MAX;
  const Header header = encoded(largest);
  EXPECT_TRUE(decode_header(header).ok());
  // Its offsets have up to 9 digits; those of the largest object one more.
  static_assert(kMaxObjectBytes < 10'000'000'000);
  EXPECT_LE(json_of(header).size() + 2 * kMaxLayers, kHeaderBytes - 32 - 20);
}

TEST_F(ObjectFormat, WhatDoesNotFitIsRefusedNamingIt) {
  const auto message = [](const Chunk& chunk) { return encode_header(chunk).status().message(); };
  EXPECT_THAT(message(chunk(0)), HasSubstr("a chunk of 0 layers"));
  EXPECT_THAT(message(chunk(401)), HasSubstr("a chunk of 401 layers: an object has 1 to 400"));
  EXPECT_THAT(message(chunk(1, 0)), HasSubstr("layers of 0 bytes"));
  EXPECT_THAT(message(chunk(2, kMaxObjectBytes)), HasSubstr("layers of 5368709120 bytes"));
  EXPECT_THAT(message(chunk(2, 64)), HasSubstr("a chunk of 128 bytes in a slot of 64"));
  Chunk wrong = chunk(1, 64);
  wrong.order = static_cast<PayloadOrder>(9);
  EXPECT_THAT(message(wrong), HasSubstr("payload order 9"));
  wrong = chunk(1, 64);
  wrong.slot.reset();
  EXPECT_THAT(message(wrong), HasSubstr("in a slot of 0"));
}

TEST_F(ObjectFormat, AnotherVersionIsRefusedNamingBoth) {
  Header header = encoded(chunk());
  header[8] = std::byte{2};
  seal(header);
  const Status status = decode_header(header).status();
  EXPECT_EQ(status.code(), Code::kRefused);
  EXPECT_THAT(status.message(), HasSubstr("version is 1 here and 2 in the object"));
}

TEST_F(ObjectFormat, NoneOfThousandsOfCorruptionsPasses) {
  const Header header = encoded(chunk(32));
  std::mt19937 random(7);
  for (size_t at = 0; at < kHeaderBytes; at += at < 2048 ? 1 : 7) {
    Header spoilt = header;
    spoilt[at] ^= static_cast<std::byte>(1u << random() % 8);
    const auto read = decode_header(spoilt);
    ASSERT_FALSE(read.ok()) << at;
    // What seems to be another version may be one.
    EXPECT_EQ(read.status().code(), at >= 8 && at < 12 ? Code::kRefused : Code::kChecksum) << at;
  }
  for (int i = 0; i < 1000; ++i) {
    Header spoilt = header;
    const size_t from = random() % kHeaderBytes, to = random() % kHeaderBytes;
    const size_t bytes = 1 + random() % (kHeaderBytes - std::max(from, to));
    std::memmove(spoilt.data() + to, header.data() + from, bytes);
    if (spoilt == header) continue;
    EXPECT_FALSE(decode_header(spoilt).ok()) << i;
  }
}

// Headers whose digest is right and whose content is not: of another writer, or of one that errs.
TEST_F(ObjectFormat, WhatContradictsItselfIsNoChunk) {
  const Header header = encoded(chunk());
  const std::string json = json_of(header);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string other = json;
    const size_t at = other.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    other.replace(at, from.size(), to);
    Header changed = header;
    std::memset(changed.data() + 20, 0, json.size());
    std::memcpy(changed.data() + 20, other.data(), other.size());
    changed[16] = static_cast<std::byte>(other.size() & 0xff);
    changed[17] = static_cast<std::byte>(other.size() >> 8);
    seal(changed);
    return decode_header(changed);
  };
  EXPECT_TRUE(with("17", "18").ok());
  const std::pair<const char*, const char*> kWrong[] = {
      {"\"key\":\"0001", "\"key\":\"01"},
      {"\"key\":\"0001", "\"key\":\"000G"},
      {"\"key\":", "\"kex\":"},
      {"\"fingerprint\":\"ff", "\"fingerprint\":\"FF"},
      {"0123456789abcdef", "0123456789abcde"},
      {"\"tokens\":17", "\"tokens\":\"17\""},
      {"\"layers\":2", "\"layers\":3"},
      {"\"layers\":2", "\"layers\":0"},
      {"\"layers\":2", "\"layers\":1000000000000"},
      {"\"layer_bytes\":4096", "\"layer_bytes\":4097"},
      {"\"layer_bytes\":4096", "\"layer_bytes\":0"},
      {"\"layer_bytes\":4096", "\"layer_bytes\":18446744073709551615"},
      {"plane,token,head,dim", "token,plane,head,dim"},
      {"[16384,20480]", "[16384,20481]"},
      {"[16384,20480]", "[20480,16384]"},
      {"[16384,20480]", "16384"},
      {"\"fedcba9876543210\"", "1"},
      {"fedcba9876543210", "fedcba98765432100"},
      {"\"fedcba9876543211\"]}", "\"fedcba9876543211\"]"},
      {"{\"key\"", "[{\"key\""},
  };
  for (const auto& [from, to] : kWrong) {
    const auto read = with(from, to);
    ASSERT_FALSE(read.ok()) << from << " " << to;
    EXPECT_EQ(read.status().code(), Code::kChecksum) << from << " " << to;
  }
  for (const auto& [at, value] : {std::pair<size_t, uint8_t>{13, 0x20}, {18, 0x7f}}) {
    Header changed = header;
    changed[at] = static_cast<std::byte>(value);
    seal(changed);
    EXPECT_EQ(decode_header(changed).status().code(), Code::kChecksum) << at;
  }
}

TEST_F(ObjectFormat, NamesAreReadAsTheyAreWritten) {
  const Chunk one = chunk();
  const std::string fingerprint =
      "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0";
  const std::string key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
  for (const std::string prefix : {"", "kv", "a/b"}) {
    const std::string before = prefix.empty() ? "" : prefix + "/";
    const std::string name = object_name(prefix, one.origin, one.id);
    EXPECT_EQ(name, before + fingerprint + "/0123456789abcdef/" + key + "-3-65535");
    const auto parsed = parse_object_name(prefix, name);
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed->id, one.id);
    EXPECT_EQ(parsed->origin, one.origin);
    EXPECT_EQ(listing_prefix(prefix, {}), before);
    EXPECT_EQ(listing_prefix(prefix, {.fingerprint = one.origin.fingerprint}),
              before + fingerprint + "/");
    EXPECT_EQ(listing_prefix(prefix, {.tenant = 1}), before);
  }
  const std::string name = object_name("kv", one.origin, one.id);
  EXPECT_FALSE(parse_object_name("k", name));
  EXPECT_FALSE(parse_object_name("", name));
  for (size_t i = 0; i < name.size(); ++i) {
    // "-65535" without its last digits is another head group's.
    EXPECT_EQ(parse_object_name("kv", name.substr(0, i)).has_value(), i + 5 > name.size()) << i;
    std::string other = name;
    other[i] = i + 5 < name.size() ? 'X' : '-';
    EXPECT_FALSE(parse_object_name("kv", other)) << other;
  }
  for (const char* end : {"0", "-1", " ", "x"}) EXPECT_FALSE(parse_object_name("kv", name + end));
  const std::string stem = name.substr(0, name.size() - 8);
  for (const char* groups : {"-03-1", "-3-", "--1", "-3-65536", "-3--1", "-3-1-1", "-3"})
    EXPECT_FALSE(parse_object_name("kv", stem + groups)) << groups;
  EXPECT_TRUE(parse_object_name("kv", stem + "-3-1"));
}

TEST_F(ObjectFormat, AFilterLetsPassWhatFitsAllOfIt) {
  const ChunkOrigin origin{.fingerprint = {1}, .tenant = 2};
  EXPECT_TRUE(matches({}, origin));
  EXPECT_TRUE(matches({.fingerprint = origin.fingerprint, .tenant = 2}, origin));
  EXPECT_FALSE(matches({.fingerprint = FingerprintDigest{2}, .tenant = 2}, origin));
  EXPECT_FALSE(matches({.fingerprint = origin.fingerprint, .tenant = 3}, origin));
  EXPECT_FALSE(matches({.tenant = 3}, origin));
}

}  // namespace
}  // namespace baton::s3
