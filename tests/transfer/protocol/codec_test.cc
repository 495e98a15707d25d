#include "transfer/protocol/codec.h"

#include <gmock/gmock.h>

#include "tests/transfer/protocol/fixtures.h"
#include "tests/transfer/protocol/random_messages.h"

namespace baton::protocol {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Bytes = std::vector<std::byte>;

Result<Message> decode_frame(const Bytes& frame) {
  BATON_ASSIGN_OR_RETURN(const FrameHeader header, decode_header(frame));
  return decode(header, std::span(frame).subspan(kFrameHeaderBytes));
}

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

TEST(Codec, EveryRandomMessageComesBackEqual) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    for (size_t type = 0; type < std::variant_size_v<Message>; ++type) {
      const Message message = random_message(type, random);
      const auto frame = encode(message);
      ASSERT_TRUE(frame.ok()) << frame.status().to_string();
      const auto decoded = decode_frame(*frame);
      ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
      ASSERT_TRUE(*decoded == message) << message_name(message);
    }
  }
}

TEST(Codec, BytesOnTheWireAreAsDocumented) {
  EXPECT_EQ(*encode(Heartbeat{0x0102030405060708}),
            bytes_of({'B', 1, 15, 0, 8, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(*encode(Sent{some_handoff(), 0x0304, true, 5, 6}),
            bytes_of({'B', 1, 6, 0, 45, 0, 0, 0,                          // header
                      1,   2, 3, 4, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // handoff
                      2,   0, 0, 0,                                       // attempt
                      4,   3, 0, 0, 0,  0, 0, 0, 1,                       // segments, all
                      5,   0, 0, 0, 0,  0, 0, 0,                          // compute_us
                      6,   0, 0, 0, 0,  0, 0, 0}));                       // goodput
  Accept accept{.handoff = some_handoff(), .held_tokens = 5, .window_bytes = 256};
  accept.held_chunks = {true, false, false, false, false, false, false, false, false, true};
  EXPECT_EQ(*encode(accept),
            bytes_of({'B', 1, 4, 0, 38, 0, 0, 0,                          // header
                      1,   2, 3, 4, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // handoff
                      2,   0, 0, 0,                                       // attempt
                      5,   0, 0, 0,                                       // held_tokens
                      10,  0, 0, 0, 1,  2,                                // held_chunks
                      0,   1, 0, 0, 0,  0, 0, 0}));                       // window_bytes
}

TEST(Codec, EveryTruncationAndEveryTrailingByteIsAnError) {
  std::mt19937_64 random(2);
  for (size_t type = 0; type < std::variant_size_v<Message>; ++type) {
    const Bytes frame = *encode(random_message(type, random));
    const FrameHeader header = *decode_header(frame);
    const Bytes payload(frame.begin() + kFrameHeaderBytes, frame.end());
    for (size_t size = 0; size < payload.size(); ++size) {
      const auto part = std::span(payload).first(size);
      const auto decoded = decode({header.type, static_cast<uint32_t>(size)}, part);
      ASSERT_FALSE(decoded.ok()) << "type " << type << ", " << size << " bytes";
      ASSERT_EQ(decoded.status().code(), Code::kProtocol);
      ASSERT_FALSE(decode(header, part).ok()) << "shorter than the header says";
    }
    Bytes longer = payload;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode({header.type, static_cast<uint32_t>(longer.size())}, longer).ok());
  }
}

TEST(Codec, HeaderErrorsNameBothValues) {
  const Bytes good = *encode(Heartbeat{1});
  const struct {
    size_t at;
    int value;
    const char* got;
    const char* want;
  } rows[] = {{0, 'X', "88", "66"},           {1, 2, "version is 2", "expected 1"},
              {2, 0, "type is 0", "1 to 18"}, {2, 19, "type is 19", "1 to 18"},
              {3, 1, "flags is 1", "0"},      {6, 0x40, "4194312", "4194296"}};
  for (const auto& row : rows) {
    Bytes bad = good;
    bad[row.at] = static_cast<std::byte>(row.value);
    const auto header = decode_header(bad);
    ASSERT_FALSE(header.ok());
    EXPECT_EQ(header.status().code(), Code::kProtocol);
    EXPECT_THAT(header.status().message(), AllOf(HasSubstr(row.got), HasSubstr(row.want)));
  }
  for (size_t size = 0; size < kFrameHeaderBytes; ++size) {
    EXPECT_FALSE(decode_header(std::span(good).first(size)).ok());
  }
}

TEST(Codec, BoundsHoldInBothDirections) {
  const HandoffAttempt h = some_handoff();
  Offer offer = some_offer(32, 2);
  offer.keys.pop_back();
  Accept accept = some_accept(some_offer(32, 2));
  accept.held_chunks.resize(kMaxChunks + 1);
  Fetch fetch{h, 5, 0, some_keys(6), 0};
  Hello hello;
  hello.local_socket = std::string(108, 's');
  Hello hello_model;
  hello_model.fingerprint.model = std::string(kMaxText + 1, 'm');
  Hello hello_address, hello_transports;
  hello_address.ucx_address = std::string(kMaxUcxAddress + 1, 'a');
  hello_transports.ucx_transports = std::string(kMaxText + 1, 't');
  const struct {
    Message message;
    const char* text;
  } rows[] = {
      {hello_address, "ucx_address: 8193, expected 0 to 8192"},
      {hello_transports, "ucx_transports: 1025, expected 0 to 1024"},
      {hello, "local_socket: 108, expected 0 to 107"},
      {hello_model, "model: 1025, expected 0 to 1024"},
      {offer, "1 keys for 2 chunks"},
      {accept, "held_chunks: 65537, expected 0 to 65536"},
      {Refuse{h, RefuseReason{0}, ""}, "reason: 0, expected 1 to 15"},
      {Refuse{h, RefuseReason{16}, ""}, "reason: 16, expected 1 to 15"},
      {Refuse{h, RefuseReason::kKeys, std::string(1025, 'x')}, "text: 1025, expected 0 to 1024"},
      {Sent{h, kMaxSegments + 1, false}, "segments: 8388609, expected 0 to 8388608"},
      {Ack{h, kMaxSegments / 64, {1}}, "first_word: 131072, expected 0 to 131071"},
      {Ack{h, 131'071, {1, 2}}, "words: 2, expected 0 to 1"},
      {Resend{h, {kMaxSegments}}, "segment: 8388608, expected 0 to 8388607"},
      {Resend{h, std::vector<uint32_t>(kMaxResend + 1)}, "segments: 65537, expected 0 to 65536"},
      {Failed{h, Code::kOk, ""}, "code: 0, expected 1 to 11"},
      {Failed{h, Code{12}, ""}, "code: 12, expected 1 to 11"},
      {Cancel{h, std::string(1025, 'x')}, "text: 1025, expected 0 to 1024"},
      {fetch, "keys: 6 for 5 tokens"},
      {Fetch{h, 0, 0, {}, 0}, "keys: 0 for 0 tokens"},
  };
  for (const auto& row : rows) {
    const auto frame = encode(row.message);
    ASSERT_FALSE(frame.ok()) << row.text;
    EXPECT_EQ(frame.status().code(), Code::kInvalidArgument);
    EXPECT_THAT(frame.status().message(),
                AllOf(HasSubstr(message_name(row.message)), HasSubstr(row.text)));
  }
  // The same on the way in: valid frames, spoilt where the value stands.
  const auto spoil = [](const Message& message, size_t at, std::initializer_list<int> values) {
    Bytes frame = *encode(message);
    for (const int value : values) frame[kFrameHeaderBytes + at++] = static_cast<std::byte>(value);
    return decode_frame(frame).status().message();
  };
  // An empty HELLO ends with the lengths of the two texts, has_token u8 and the challenge.
  const size_t hello_end = encode(Hello{})->size() - kFrameHeaderBytes - 1 - 32;
  EXPECT_THAT(spoil(Hello{}, hello_end - 8, {1, 0x20}), HasSubstr("ucx_address: 8193"));
  EXPECT_THAT(spoil(Hello{}, hello_end - 4, {1, 4}), HasSubstr("ucx_transports: 1025"));
  EXPECT_THAT(spoil(Refuse{h, RefuseReason::kKeys, ""}, 20, {16}), HasSubstr("reason: 16"));
  EXPECT_THAT(spoil(Refuse{h, RefuseReason::kKeys, ""}, 20, {0}), HasSubstr("reason: 0"));
  EXPECT_THAT(spoil(Sent{h, 1, true}, 28, {2}), HasSubstr("all: 2, expected 0 to 1"));
  EXPECT_THAT(spoil(Sent{h, 1, true}, 22, {0x81}), HasSubstr("expected 0 to 8388608"));
  EXPECT_THAT(spoil(Failed{h, Code::kInternal, ""}, 20, {12}), HasSubstr("code: 12"));
  EXPECT_THAT(spoil(Ack{h, 0, {1}}, 22, {2}), HasSubstr("first_word: 131072"));
  EXPECT_THAT(spoil(Resend{h, {0}}, 26, {0x80}), HasSubstr("segment: 8388608"));
  EXPECT_THAT(spoil(some_offer(32, 2), 20, {33}), HasSubstr("2 keys for 3 chunks"));
  EXPECT_THAT(spoil(some_offer(32, 2), 47, {9}), HasSubstr("order: 9, expected 1 to 3"));
  EXPECT_THAT(spoil(some_accept(some_offer(32, 2)), 28, {4}), HasSubstr("padding"));
}

TEST(Codec, ACountWithoutItsElementsIsRefusedBeforeAnythingIsAllocated) {
  Bytes frame = *encode(Resend{some_handoff(), {}});
  for (const size_t at : {0, 1}) frame[kFrameHeaderBytes + 20 + at] = std::byte{0xff};
  const auto decoded = decode_frame(frame);
  ASSERT_FALSE(decoded.ok());
  EXPECT_THAT(decoded.status().message(), HasSubstr("65535 elements, 0 bytes are left"));
}

// A stranger's frame may have 16 KiB (control/connection.cc), and this must fit.
TEST(Codec, AHelloWithEveryTextAtItsBoundFitsAStrangersFrame) {
  const std::string text(kMaxText, 't');
  Hello hello;
  hello.node = hello.ucx_transports = text;
  hello.fingerprint.model = hello.fingerprint.dtype = text;
  hello.fingerprint.rope = hello.fingerprint.opaque_layout = text;
  hello.local_socket = std::string(107, 's');
  hello.tcp_port = 65'535;
  hello.ucx_address = std::string(kMaxUcxAddress, '\0');
  const auto frame = encode(hello);
  ASSERT_TRUE(frame.ok()) << frame.status().to_string();
  EXPECT_LE(frame->size() - kFrameHeaderBytes, 16u << 10);
  EXPECT_TRUE(*decode_frame(*frame) == Message(hello));
}

TEST(Codec, TheLargestOfferAndAckFitAFrame) {
  Offer offer = some_offer(kMaxChunks * 16, 128);
  ASSERT_TRUE(encode(offer).ok()) << encode(offer).status().to_string();
  EXPECT_TRUE(*decode_frame(*encode(offer)) == Message(offer));
  const Ack ack{some_handoff(), 0, std::vector<uint64_t>(kMaxSegments / 64, ~uint64_t{0})};
  EXPECT_TRUE(*decode_frame(*encode(ack)) == Message(ack));
}

TEST(Messages, NamesAndHandoffs) {
  EXPECT_STREQ(message_name(Hello{}), "HELLO");
  EXPECT_STREQ(message_name(Heartbeat{}), "HEARTBEAT");
  EXPECT_EQ(handoff_of(Hello{}), nullptr);
  EXPECT_EQ(handoff_of(Heartbeat{}), nullptr);
  EXPECT_STREQ(message_name(Auth{}), "AUTH");
  EXPECT_EQ(handoff_of(Auth{}), nullptr);
  EXPECT_STREQ(message_name(Lookup{}), "LOOKUP");
  EXPECT_EQ(handoff_of(Lookup{}), nullptr);
  EXPECT_STREQ(message_name(Found{}), "FOUND");
  EXPECT_EQ(handoff_of(Found{}), nullptr);
  for (const Message& message : one_of_each(some_offer(32, 2))) {
    ASSERT_NE(handoff_of(message), nullptr);
    EXPECT_EQ(*handoff_of(message), some_handoff());
  }
  EXPECT_STREQ(refuse_reason_name(RefuseReason::kChunkTokens), "chunk_tokens");
  EXPECT_STREQ(end_name(End::kExpired), "expired");
}

}  // namespace
}  // namespace baton::protocol
