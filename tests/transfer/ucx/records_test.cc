#include "transfer/ucx/records.h"

#include <gtest/gtest.h>

#include <vector>

#include "transfer/ucx/incoming.h"

namespace baton::ucx {
namespace {

const SegmentHeader kHeader{{HandoffId{{1, 2, 3}}, 7}, 9, 1000, {11}};

std::vector<std::byte> bytes_of(const Record& record) {
  const RecordBytes encoded = encode(record);
  return {encoded.span().begin(), encoded.span().end()};
}

TEST(UcxRecords, AreReadAsTheyWereWritten) {
  Greeting greeting{true, 1, {2}, {3}, 4, 5, 6};
  greeting.proof[31] = 9;
  const auto g = decode(bytes_of(greeting));
  ASSERT_TRUE(g.ok());
  const auto& read = std::get<Greeting>(*g);
  EXPECT_TRUE(read.refusal);
  EXPECT_EQ(read.nonce, 1u);
  EXPECT_EQ(read.from.value, 2u);
  EXPECT_EQ(read.to.value, 3u);
  EXPECT_EQ(read.token, 4u);
  EXPECT_EQ(read.answered, 5u);
  EXPECT_EQ(read.max_unconsumed, 6u);
  EXPECT_EQ(read.proof, greeting.proof);

  const auto p = decode(bytes_of(Piece{12, 13, kHeader, 14}));
  ASSERT_TRUE(p.ok());
  const auto& piece = std::get<Piece>(*p);
  EXPECT_EQ(piece.token, 12u);
  EXPECT_EQ(piece.sequence, 13u);
  EXPECT_EQ(piece.header.handoff, kHeader.handoff);
  EXPECT_EQ(piece.header.segment, 9u);
  EXPECT_EQ(piece.header.bytes, 1000u);
  EXPECT_EQ(piece.header.checksum, kHeader.checksum);
  EXPECT_EQ(piece.offset, 14u);

  const auto c = decode(bytes_of(Consumed{15, 16}));
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(std::get<Consumed>(*c).token, 15u);
  EXPECT_EQ(std::get<Consumed>(*c).total, 16u);
  const auto b = decode(bytes_of(Bye{17}));
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(std::get<Bye>(*b).token, 17u);
}

TEST(UcxRecords, WhatIsNoneIsAProtocolError) {
  const std::vector<std::byte> good = bytes_of(Piece{12, 13, kHeader, 14});
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_EQ(decode(std::span(good).first(size)).status().code(), Code::kProtocol) << size;
  std::vector<std::byte> longer = good;
  longer.push_back({});
  EXPECT_FALSE(decode(longer).ok());
  for (size_t at = 0; at < 8; ++at) {  // magic, format, kind
    std::vector<std::byte> other = good;
    other[at] ^= std::byte{0x80};
    EXPECT_FALSE(decode(other).ok()) << at;
  }
}

class IncomingTest : public ::testing::Test {
 protected:
  static Piece piece(uint64_t sequence, uint64_t bytes, uint64_t offset) {
    SegmentHeader header = kHeader;
    header.bytes = bytes;
    return {0, sequence, header, offset};
  }
  Code code(const Piece& p, size_t bytes) { return incoming_.take(p, bytes).status().code(); }
  Incoming incoming_{32 << 10};
};

TEST_F(IncomingTest, PiecesMakeASegment) {
  const auto whole = incoming_.take(piece(1, 100, 0), 100);
  ASSERT_TRUE(whole.ok());
  EXPECT_TRUE(whole->whole);
  const auto part = incoming_.take(piece(2, 100, 40), 60);
  ASSERT_TRUE(part.ok());
  EXPECT_FALSE(part->whole);
  const auto rest = incoming_.take(piece(2, 100, 0), 40);
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(rest->segment, part->segment);
  EXPECT_EQ(rest->segment->claimed, 100u);
  EXPECT_EQ(code(piece(2, 100, 0), 1), Code::kProtocol);  // more than there are
}

TEST_F(IncomingTest, WhatAPeerMustNotSayIsAProtocolError) {
  EXPECT_EQ(code(piece(1, 0, 0), 0), Code::kProtocol);
  EXPECT_EQ(code(piece(1, 100, 0), 0), Code::kProtocol);
  EXPECT_EQ(code(piece(1, 100, 0), 101), Code::kProtocol);
  EXPECT_EQ(code(piece(1, 100, 60), 41), Code::kProtocol);
  EXPECT_EQ(code(piece(1, 100, UINT64_MAX), 1), Code::kProtocol);
  EXPECT_EQ(code(piece(1, UINT64_MAX, 0), 1), Code::kProtocol);
  ASSERT_EQ(code(piece(2, 100, 0), 50), Code::kOk);
  EXPECT_EQ(code(piece(2, 101, 50), 50), Code::kProtocol);  // its pieces disagree
}

TEST_F(IncomingTest, NoMoreIsTakenThanMayBeUnconsumed) {
  for (uint64_t sequence = 1; sequence <= 8; ++sequence)  // each is charged 4 KiB
    ASSERT_EQ(code(piece(sequence, 1, 0), 1), Code::kOk);
  EXPECT_EQ(code(piece(9, 1, 0), 1), Code::kProtocol);
  incoming_.consumed(1);
  EXPECT_EQ(incoming_.consumed_total(), 4096u);
  EXPECT_EQ(code(piece(9, 1, 0), 1), Code::kOk);
}

TEST_F(IncomingTest, AnEndedHandoffsPartsAreDropped) {
  const auto part = incoming_.take(piece(1, 100, 0), 50);
  ASSERT_TRUE(part.ok());
  incoming_.drop({HandoffId{{9}}, 1});
  EXPECT_FALSE(part->segment->dropped);
  incoming_.drop(kHeader.handoff);
  EXPECT_TRUE(part->segment->dropped);
}

TEST(ReceiveMemoryTest, KeepsAsMuchAsItMay) {
  ReceiveMemory memory(1000);
  auto block = memory.take(600);
  std::byte* const data = block.data.get();
  ASSERT_NE(data, nullptr);
  memory.give_back(std::move(block));
  EXPECT_EQ(memory.kept_bytes(), 600u);
  memory.give_back({std::unique_ptr<std::byte[]>(new std::byte[500]), 500});  // too much
  EXPECT_EQ(memory.kept_bytes(), 600u);
  auto again = memory.take(10);
  EXPECT_EQ(again.data.get(), data);
  EXPECT_EQ(memory.kept_bytes(), 0u);
  EXPECT_EQ(again.bytes, 600u);
}

}  // namespace
}  // namespace baton::ucx
