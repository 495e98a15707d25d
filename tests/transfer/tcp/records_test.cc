#include "transfer/tcp/records.h"

#include <gtest/gtest.h>

#include <random>

namespace baton::tcp {
namespace {

Greeting some_greeting() {
  Greeting greeting{.nonce = 1, .from = {2}, .to = {3}, .opening = 4, .lane = 5, .lanes = 6};
  greeting.proof[31] = 9;
  return greeting;
}

SegmentHeader some_header() { return {{HandoffId{{1, 2, 3}}, 7}, 11, 4096, {}}; }

TEST(TcpRecordsTest, WhatIsWrittenIsRead) {
  const auto greeting = decode_greeting(encode(some_greeting()));
  ASSERT_TRUE(greeting.ok()) << greeting.status().to_string();
  EXPECT_EQ(*greeting, some_greeting());
  const auto header = decode_header(encode(some_header()));
  ASSERT_TRUE(header.ok()) << header.status().to_string();
  EXPECT_EQ(header->handoff, some_header().handoff);
  EXPECT_EQ(header->segment, 11u);
  EXPECT_EQ(header->bytes, 4096u);
  for (const Trailer& trailer : {Trailer{{77}, false}, Trailer{{}, true}}) {
    const auto read = decode_trailer(encode(trailer));
    ASSERT_TRUE(read.ok()) << read.status().to_string();
    EXPECT_EQ(*read, trailer);
  }
}

// The stream's framing hangs on a header: no changed byte may pass.
TEST(TcpRecordsTest, NoChangedBitOfAHeaderPasses) {
  const HeaderBytes right = encode(some_header());
  for (size_t bit = 0; bit < right.size() * 8; ++bit) {
    HeaderBytes changed = right;
    changed[bit / 8] ^= std::byte{1} << (bit % 8);
    const auto read = decode_header(changed);
    ASSERT_FALSE(read.ok()) << "bit " << bit;
    EXPECT_EQ(read.status().code(), Code::kProtocol);
  }
}

TEST(TcpRecordsTest, ImpossibleSizesAreRefused) {
  SegmentHeader header = some_header();
  header.bytes = 0;
  EXPECT_EQ(decode_header(encode(header)).status().message(), "tcp channel: bytes is 0");
  header.bytes = (uint64_t{1} << 30) + 1;
  EXPECT_EQ(decode_header(encode(header)).status().message(), "tcp channel: bytes is 1073741825");
}

TEST(TcpRecordsTest, WrongGreetingsNameTheField) {
  const auto message = [](Greeting greeting) {
    return decode_greeting(encode(greeting)).status().message();
  };
  Greeting greeting = some_greeting();
  greeting.lanes = 17;
  EXPECT_EQ(message(greeting), "tcp channel: lanes is 17");
  greeting.lanes = 5;
  EXPECT_EQ(message(greeting), "tcp channel: lane is 5");
  GreetingBytes bytes = encode(some_greeting());
  bytes[4] = std::byte{9};
  EXPECT_EQ(decode_greeting(bytes).status().message(), "tcp channel: format is 1 here and 9 there");
  bytes = encode(some_greeting());
  bytes[95] = std::byte{1};
  EXPECT_EQ(decode_greeting(bytes).status().message(), "tcp channel: a reserved field is 1");
}

TEST(TcpRecordsTest, RandomBytesAreRefused) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    GreetingBytes greeting;
    HeaderBytes header;
    TrailerBytes trailer;
    for (auto& byte : greeting) byte = static_cast<std::byte>(random());
    for (auto& byte : header) byte = static_cast<std::byte>(random());
    for (auto& byte : trailer) byte = static_cast<std::byte>(random());
    EXPECT_FALSE(decode_greeting(greeting).ok());
    EXPECT_FALSE(decode_header(header).ok());
    EXPECT_FALSE(decode_trailer(trailer).ok());
  }
}

}  // namespace
}  // namespace baton::tcp
