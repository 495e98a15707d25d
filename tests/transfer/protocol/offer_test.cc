#include "transfer/protocol/offer.h"

#include <gmock/gmock.h>

#include "tests/transfer/protocol/fixtures.h"

namespace baton::protocol {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(CheckOffer, NamesWhatIsWrong) {
  const struct {
    const char* text;
    void (*spoil)(Offer&);
  } rows[] = {
      {"0 tokens", [](Offer& o) { o.tokens = 0; }},
      {"chunks of 0", [](Offer& o) { o.chunk_tokens = 0; }},
      {"2 keys for 3 chunks", [](Offer& o) { o.tokens = 33; }},
      {"1 keys for 2 chunks", [](Offer& o) { o.keys.pop_back(); }},
      {"0 groups", [](Offer& o) { o.groups.clear(); }},
      {"65 groups", [](Offer& o) { o.groups.resize(65, o.groups[0]); }},
      {"0 layers", [](Offer& o) { o.groups[0].layers = 0; }},
      {"1025 layers", [](Offer& o) { o.groups[0].layers = 1025; }},
      {"segments of 0 bytes", [](Offer& o) { o.groups[0].token_bytes = 0; }},
      {"segments of 2147483648 bytes", [](Offer& o) { o.groups[0].token_bytes = 1u << 27; }},
      {"payload order 0", [](Offer& o) { o.groups[0].order = PayloadOrder{0}; }},
      {"payload order 4", [](Offer& o) { o.groups[0].order = PayloadOrder{4}; }},
      {"payload order 3 and opaque blocks of 0",
       [](Offer& o) { o.groups[0].order = PayloadOrder::kOpaque; }},
      {"payload order 1 and opaque blocks of 8",
       [](Offer& o) { o.groups[0].opaque_block_tokens = 8; }},
      {"no multiple",
       [](Offer& o) {
         o.groups[0].order = PayloadOrder::kOpaque;
         o.groups[0].opaque_block_tokens = 5;
       }},
      {"groups 0 and 1 are both KV group 0", [](Offer& o) { o.groups.push_back(o.groups[0]); }},
      {"keys for 70000 chunks",
       [](Offer& o) {
         o.tokens = 70'000 * 16;
         o.keys.resize(70'000);
       }},
      {"expected at most 8388608",
       [](Offer& o) {
         o.tokens = 65'536 * 16;
         o.keys.resize(65'536);
         o.groups[0].layers = 129;
       }},
  };
  ASSERT_TRUE(check_offer(some_offer(32, 2)).ok());
  for (const auto& row : rows) {
    Offer offer = some_offer(32, 2);
    row.spoil(offer);
    const Status status = check_offer(offer);
    EXPECT_EQ(status.code(), Code::kProtocol) << row.text;
    EXPECT_THAT(status.message(), HasSubstr(row.text));
  }
}

TEST(CompareOffer, NamesTheFirstDifferenceAndBothValues) {
  const Offer offer = some_offer(40, 2);
  EXPECT_FALSE(compare_offer(expectation_of(offer), offer).has_value());
  const struct {
    RefuseReason reason;
    const char* text;
    void (*spoil)(Offer&);
  } rows[] = {
      {RefuseReason::kChunkTokens, "chunk_tokens is 16 here and 20 in the offer",
       [](Offer& o) { o.chunk_tokens = 20; }},
      {RefuseReason::kLayout, "number of groups is 1 here and 2 in the offer",
       [](Offer& o) { o.groups.push_back(some_group(1, 2)); }},
      {RefuseReason::kLayout, "group 0: kv_group is 0 here and 3 in the offer",
       [](Offer& o) { o.groups[0].kv_group = 3; }},
      {RefuseReason::kLayout, "group 0: head_group is 0 here and 1 in the offer",
       [](Offer& o) { o.groups[0].head_group = 1; }},
      {RefuseReason::kLayout, "group 0: layers is 2 here and 4 in the offer",
       [](Offer& o) { o.groups[0].layers = 4; }},
      {RefuseReason::kLayout, "group 0: token_bytes is 4 here and 8 in the offer",
       [](Offer& o) { o.groups[0].token_bytes = 8; }},
      {RefuseReason::kLayout, "group 0: opaque_block_tokens is 0 here and 8 in the offer",
       [](Offer& o) {
         o.groups[0].order = PayloadOrder::kOpaque;
         o.groups[0].opaque_block_tokens = 8;
       }},
      {RefuseReason::kKeys, "tokens is 40 here and 41 in the offer",
       [](Offer& o) { o.tokens = 41; }},
      {RefuseReason::kKeys, "tokens is 40 here and 32 in the offer",
       [](Offer& o) { o = some_offer(32, 2); }},
  };
  for (const auto& row : rows) {
    Offer other = offer;
    row.spoil(other);
    const auto difference = compare_offer(expectation_of(offer), other);
    ASSERT_TRUE(difference.has_value()) << row.text;
    EXPECT_EQ(difference->reason, row.reason) << row.text;
    EXPECT_EQ(difference->text, row.text);
  }
}

TEST(CompareOffer, ShowsBothKeysInHexadecimal) {
  const Offer offer = some_offer(40, 2);
  Offer other = offer;
  other.keys[1] = some_key(9);
  const auto difference = compare_offer(expectation_of(offer), other);
  ASSERT_TRUE(difference.has_value());
  EXPECT_EQ(difference->reason, RefuseReason::kKeys);
  EXPECT_THAT(difference->text,
              AllOf(HasSubstr("chunk 1"), HasSubstr("00a1a1a1"), HasSubstr("00a9a9a9")));
}

TEST(CompareOffer, ThePayloadOrderIsTheWriters) {
  Offer offer = some_offer(40, 2);
  const Expectation expected = expectation_of(offer);
  offer.groups[0].order = PayloadOrder::kHeadToken;
  EXPECT_FALSE(compare_offer(expected, offer).has_value());
}

TEST(CompareOffer, AFetchMayBringALeadingRunOfWholeChunks) {
  const Offer whole = some_offer(40, 2);
  const Offer leading = some_offer(32, 2);
  EXPECT_FALSE(compare_offer(expectation_of(whole, Flow::kFetch), leading).has_value());
  EXPECT_FALSE(compare_offer(expectation_of(whole, Flow::kFetch), whole).has_value());
  EXPECT_TRUE(compare_offer(expectation_of(whole, Flow::kPush), leading).has_value());

  Offer ragged = some_offer(31, 2);  // the second chunk is whole in our prompt
  const auto difference = compare_offer(expectation_of(whole, Flow::kFetch), ragged);
  ASSERT_TRUE(difference.has_value());
  EXPECT_EQ(difference->text, "tokens of the leading 2 chunks is 32 here and 31 in the offer");
  EXPECT_TRUE(compare_offer(expectation_of(leading, Flow::kFetch), whole).has_value());  // too much
}

TEST(ChunksHeld, AChunkHeldInPartIsNotHeld) {
  const SegmentMap map(some_offer(40, 1));
  using Bits = std::vector<bool>;
  EXPECT_EQ(chunks_held(map, 0, {}), (Bits{false, false, false}));
  EXPECT_EQ(chunks_held(map, 31, {}), (Bits{true, false, false}));
  EXPECT_EQ(chunks_held(map, 32, {}), (Bits{true, true, false}));
  EXPECT_EQ(chunks_held(map, 39, {}), (Bits{true, true, false}));
  EXPECT_EQ(chunks_held(map, 40, {}), (Bits{true, true, true}));
  EXPECT_EQ(chunks_held(map, 16, {false, false, true}), (Bits{true, false, true}));
  EXPECT_EQ(largest_needed_segment(map, {true, true, false}), 32u);
  EXPECT_EQ(largest_needed_segment(map, {false, true, true}), 64u);
  EXPECT_EQ(largest_needed_segment(map, {true, true, true}), 0u);
}

TEST(BoundedText, CutsBetweenCharacters) {
  EXPECT_EQ(bounded_text("short"), "short");
  EXPECT_EQ(bounded_text(std::string(2000, 'x')).size(), kMaxText);
  std::string text(kMaxText - 1, 'x');
  EXPECT_EQ(bounded_text(text + "\xc3\xa9"), text);  // é would end one byte past the bound
  EXPECT_EQ(bounded_text(text + "yz"), text + "y");
}

}  // namespace
}  // namespace baton::protocol
