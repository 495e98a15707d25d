#include "transfer/local/records.h"

#include <gtest/gtest.h>

#include "transfer/local/published.h"

namespace baton::local {
namespace {

Publish a_publish() {
  return {.header = {{HandoffId{{1, 2, 3}}, 4}, 5, 4096, {0x1122334455667788}},
          .arena = ArenaIndex::kRetained,
          .sequence = 6,
          .offset = 8192};
}

Greeting a_greeting() {
  return {.nonce = 1,
          .from = {2},
          .to = {3},
          .max_published = 4,
          .arenas = {Geometry{1 << 20, 4096}, Geometry{0, 0}},
          .proof = {7, 8, 9}};
}

template <typename Bytes>
Code code_with(Bytes bytes, size_t at, uint8_t value) {
  bytes[at] = std::byte{value};
  if constexpr (std::is_same_v<Bytes, GreetingBytes>) {
    return decode_greeting(bytes).status().code();
  } else {
    return decode_record(bytes).status().code();
  }
}

TEST(Records, PublishComesBackAsItWas) {
  const auto decoded = decode_record(encode(a_publish()));
  ASSERT_TRUE(decoded.ok());
  const auto& publish = std::get<Publish>(*decoded);
  EXPECT_EQ(publish.header.handoff, a_publish().header.handoff);
  EXPECT_EQ(publish.header.segment, 5u);
  EXPECT_EQ(publish.header.bytes, 4096u);
  EXPECT_EQ(publish.header.checksum.value, 0x1122334455667788u);
  EXPECT_EQ(publish.arena, ArenaIndex::kRetained);
  EXPECT_EQ(publish.sequence, 6u);
  EXPECT_EQ(publish.offset, 8192u);
}

TEST(Records, ConsumedComesBackAsItWas) {
  Consumed consumed{{9, 8, 7, 6, 5, 4, 3}, 7};
  const auto decoded = decode_record(encode(consumed));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(std::get<Consumed>(*decoded).sequences, consumed.sequences);
  EXPECT_EQ(std::get<Consumed>(*decoded).count, 7);
}

TEST(Records, GreetingComesBackAsItWas) {
  const auto decoded = decode_greeting(encode(a_greeting()));
  ASSERT_TRUE(decoded.ok());
  EXPECT_FALSE(decoded->refusal);
  EXPECT_EQ(decoded->nonce, 1u);
  EXPECT_EQ(decoded->from.value, 2u);
  EXPECT_EQ(decoded->to.value, 3u);
  EXPECT_EQ(decoded->max_published, 4u);
  EXPECT_EQ(decoded->arenas[0].arena_bytes, 1u << 20);
  EXPECT_EQ(decoded->arenas[0].slot_bytes, 4096u);
  EXPECT_EQ(decoded->arenas[1].arena_bytes, 0u);
  EXPECT_EQ(decoded->proof, a_greeting().proof);
}

TEST(Records, WhatIsNotOursIsRefused) {
  const RecordBytes publish = encode(a_publish());
  EXPECT_EQ(code_with(publish, 0, 3), Code::kProtocol);   // kind
  EXPECT_EQ(code_with(publish, 2, 2), Code::kProtocol);   // arena
  EXPECT_EQ(code_with(publish, 63, 1), Code::kProtocol);  // reserved
  const RecordBytes consumed = encode(Consumed{{1}, 1});
  EXPECT_EQ(code_with(consumed, 2, 0), Code::kProtocol);  // count
  EXPECT_EQ(code_with(consumed, 2, 8), Code::kProtocol);
  EXPECT_EQ(code_with(consumed, 4, 1), Code::kProtocol);  // reserved
  const GreetingBytes greeting = encode(a_greeting());
  EXPECT_EQ(code_with(greeting, 0, 'X'), Code::kProtocol);  // magic
  EXPECT_EQ(code_with(greeting, 4, 2), Code::kProtocol);    // format
  EXPECT_EQ(code_with(greeting, 6, 3), Code::kProtocol);    // kind
  EXPECT_EQ(code_with(greeting, 32, 0), Code::kProtocol);   // max_published: zero
  EXPECT_EQ(code_with(greeting, 35, 1), Code::kProtocol);   // max_published: too many
  EXPECT_EQ(code_with(greeting, 49, 0), Code::kProtocol);   // no slot bytes
  EXPECT_EQ(code_with(greeting, 55, 1), Code::kProtocol);   // slots larger than the arena
  EXPECT_EQ(code_with(greeting, 127, 1), Code::kProtocol);  // reserved
}

TEST(Records, ARangeLiesWithinOneSlot) {
  const Geometry arena{16 * 4096 + 100, 4096};
  const auto check = [&](uint64_t offset, uint64_t bytes) {
    Publish publish = a_publish();
    publish.offset = offset;
    publish.header.bytes = bytes;
    return check_range(publish, arena).ok();
  };
  EXPECT_TRUE(check(0, 4096));
  EXPECT_TRUE(check(4096 + 96, 4000));
  EXPECT_TRUE(check(15 * 4096, 4096));
  EXPECT_FALSE(check(0, 0));
  EXPECT_FALSE(check(0, 4097));
  EXPECT_FALSE(check(1, 4096));
  EXPECT_FALSE(check(16 * 4096, 101));
  EXPECT_FALSE(check(UINT64_MAX, 1));
  EXPECT_FALSE(check(UINT64_MAX - 10, 20));
}

TEST(Published, OnlyWhatIsOutstandingCanBeConsumed) {
  Published published(2);
  int called = 0;
  const auto done = [&called](const Status&) { ++called; };
  const uint64_t one = published.add({}, {}, 0, done);
  EXPECT_FALSE(published.full());
  const uint64_t two = published.add({}, {}, 0, done);
  EXPECT_TRUE(published.full());
  EXPECT_NE(one, two);
  const auto consumed = published.consumed(one);
  ASSERT_TRUE(consumed.ok());
  (*consumed)(ok_status());
  EXPECT_EQ(called, 1);
  EXPECT_EQ(published.consumed(one).status().code(), Code::kProtocol);
  EXPECT_EQ(published.consumed(77).status().code(), Code::kProtocol);
  EXPECT_FALSE(published.full());
}

TEST(Published, WhatWasForgottenCountsUntilThePeerConsumesIt) {
  Published published(2);
  const HandoffAttempt ours{HandoffId{{1}}, 1};
  const HandoffAttempt other{HandoffId{{1}}, 2};
  const auto done = [](const Status&) {};
  const uint64_t one = published.add(ours, {}, 100, done);
  published.add(other, {}, 10, done);
  EXPECT_EQ(published.staged_bytes(), 110u);
  EXPECT_EQ(published.forget(ours).size(), 1u);
  EXPECT_EQ(published.staged_bytes(), 10u);  // nobody holds that memory any more
  EXPECT_EQ(published.forget(ours).size(), 0u);
  EXPECT_TRUE(published.full());
  const auto consumed = published.consumed(one);
  ASSERT_TRUE(consumed.ok());
  EXPECT_FALSE(*consumed);  // nobody to call any more
  EXPECT_FALSE(published.full());
  EXPECT_EQ(published.staged_bytes(), 10u);
  EXPECT_EQ(published.forget_all().size(), 1u);
  EXPECT_EQ(published.staged_bytes(), 0u);
}

}  // namespace
}  // namespace baton::local
