#include "transfer/control/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::control {
namespace {

using protocol::Hello;
using protocol::RefuseReason;
using ::testing::AllOf;
using ::testing::HasSubstr;

Hello hello(const std::string& node, uint64_t incarnation) {
  Hello hello;
  hello.node = node;
  hello.incarnation = {incarnation};
  hello.fingerprint = {.model = "model@1",
                       .dtype = "float32",
                       .layers = 4,
                       .planes = 2,
                       .kv_heads = 4,
                       .head_dim = 16,
                       .rope = "theta=10000",
                       .opaque_layout = ""};
  hello.chunk_tokens = 256;
  return hello;
}

TEST(Disagreement, NoneBetweenEqualNodes) {
  Hello theirs = hello("b:2", 2);
  theirs.local_socket = "other";
  theirs.channel_nonce = 7;
  EXPECT_FALSE(disagreement(hello("a:1", 1), theirs));
}

struct Case {
  const char* name;
  void (*change)(Hello&);
  RefuseReason reason;
  const char* ours;
  const char* theirs;
};

class DisagreementOf : public ::testing::TestWithParam<Case> {};

TEST_P(DisagreementOf, NamesBothValues) {
  const Case& c = GetParam();
  Hello theirs = hello("b:2", 2);
  c.change(theirs);
  const auto refuse = disagreement(hello("a:1", 1), theirs);
  ASSERT_TRUE(refuse);
  EXPECT_EQ(refuse->reason, c.reason);
  EXPECT_EQ(refuse->handoff.id, HandoffId{});
  EXPECT_THAT(refuse->text, AllOf(HasSubstr(c.ours), HasSubstr(c.theirs)));
}

INSTANTIATE_TEST_SUITE_P(
    Hello, DisagreementOf,
    ::testing::Values(Case{"version", [](Hello& h) { h.version = 9; }, RefuseReason::kVersion,
                           "2 here", "9 there"},
                      Case{"model", [](Hello& h) { h.fingerprint.model = "model@2"; },
                           RefuseReason::kFingerprint, "model@1", "model@2"},
                      Case{"dtype", [](Hello& h) { h.fingerprint.dtype = "bfloat16"; },
                           RefuseReason::kFingerprint, "float32", "bfloat16"},
                      Case{"layers", [](Hello& h) { h.fingerprint.layers = 5; },
                           RefuseReason::kFingerprint, "'4' here", "'5' there"},
                      Case{"rope", [](Hello& h) { h.fingerprint.rope = "theta=1"; },
                           RefuseReason::kFingerprint, "theta=10000", "theta=1"},
                      Case{"opaque_layout", [](Hello& h) { h.fingerprint.opaque_layout = "cpu"; },
                           RefuseReason::kFingerprint, "''", "'cpu'"},
                      Case{"chunk_tokens", [](Hello& h) { h.chunk_tokens = 64; },
                           RefuseReason::kChunkTokens, "256 here", "64 there"},
                      Case{"one_opaque",
                           [](Hello& h) {
                             h.opaque_block_bytes = 4096;
                             h.opaque_block_tokens = 16;
                           },
                           RefuseReason::kLayout, "strides here", "4096 bytes and 16 tokens there"},
                      Case{"same_address", [](Hello& h) { h.node = "a:1"; },
                           RefuseReason::kIncarnation, "here", "there"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Disagreement, OpaqueBlocksMustBeEqual) {
  Hello ours = hello("a:1", 1);
  ours.opaque_block_bytes = 4096;
  ours.opaque_block_tokens = 16;
  Hello theirs = ours;
  theirs.node = "b:2";
  EXPECT_FALSE(disagreement(ours, theirs));
  theirs.opaque_block_tokens = 32;
  const auto refuse = disagreement(ours, theirs);
  ASSERT_TRUE(refuse);
  EXPECT_EQ(refuse->reason, RefuseReason::kLayout);
  EXPECT_THAT(refuse->text, AllOf(HasSubstr("16 tokens here"), HasSubstr("32 tokens there")));
}

TEST(Disagreement, AStoreKeepsAnyModelsChunks) {
  Hello store = hello("s:1", 1);
  store.store = true;
  Hello engine = hello("b:2", 2);
  engine.fingerprint.model = "model@2";
  engine.chunk_tokens = 64;
  engine.opaque_block_bytes = 4096;
  EXPECT_FALSE(disagreement(store, engine));
  EXPECT_FALSE(disagreement(engine, store));
  engine.version = 9;
  EXPECT_TRUE(disagreement(store, engine));
}

TEST(Disagreement, OneNodeDialsItself) {
  const auto refuse = disagreement(hello("a:1", 1), hello("a:1", 1));
  ASSERT_TRUE(refuse);
  EXPECT_THAT(refuse->text, HasSubstr("dialled itself"));
}

TEST(Decides, ExactlyOneOfTwo) {
  const Hello a = hello("127.0.0.1:10", 1);
  const Hello b = hello("127.0.0.1:9", 2);
  EXPECT_NE(decides(a, b), decides(b, a));
}

TEST(Lives, ALifeIsOverOnceANewerOneCame) {
  Lives lives;
  EXPECT_EQ(lives.judge("a:1", {1}), Lives::Verdict::kFirst);
  lives.begin("a:1", {1});
  EXPECT_EQ(lives.judge("a:1", {1}), Lives::Verdict::kCurrent);
  EXPECT_EQ(lives.judge("a:1", {2}), Lives::Verdict::kNewer);
  EXPECT_EQ(lives.judge("b:1", {2}), Lives::Verdict::kFirst);
  lives.begin("a:1", {2});
  EXPECT_EQ(lives.judge("a:1", {1}), Lives::Verdict::kOver);
  EXPECT_EQ(lives.judge("a:1", {2}), Lives::Verdict::kCurrent);
}

TEST(Lives, RemembersABoundedNumber) {
  Lives lives;
  for (uint64_t i = 0; i <= Lives::kMaxPast + 1; ++i) lives.begin("a:1", {i});
  EXPECT_EQ(lives.judge("a:1", {0}), Lives::Verdict::kNewer);  // forgotten
  EXPECT_EQ(lives.judge("a:1", {1}), Lives::Verdict::kOver);
  for (size_t i = 0; i < Lives::kMaxNodes; ++i) lives.begin("n:" + std::to_string(i), {1});
  EXPECT_EQ(lives.judge("a:1", {1}), Lives::Verdict::kFirst);
  EXPECT_EQ(lives.judge("n:0", {1}), Lives::Verdict::kCurrent);
}

TEST(Printable, KeepsOneLineOneLine) {
  EXPECT_EQ(printable("a\nb\x1b[0m\x7f"), "a?b?[0m?");
  EXPECT_EQ(printable("größe"), "größe");
  EXPECT_EQ(printable("a\u0080\u009b31m\u009f\u00a0"), "a??31m?\u00a0");  // C1, as UTF-8 …
  EXPECT_EQ(printable("a\x80\x9b\x9f\xff"), "a????");                     // … and as bare bytes
}

TEST(Printable, WhatIsNoUtf8IsAQuestionMark) {
  EXPECT_EQ(printable("\u07ff\u0800\ud7ff\uffff\U00010000\U0010ffff"),
            "\u07ff\u0800\ud7ff\uffff\U00010000\U0010ffff");
  EXPECT_EQ(printable("\xc3"), "?");  // cut
  EXPECT_EQ(printable("\xe2\x82"), "?");
  EXPECT_EQ(printable("\xc3\x28"), "?(");
  EXPECT_EQ(printable("\xc0\xaf"), "??");  // overlong
  EXPECT_EQ(printable("\xe0\x9f\xbf"), "???");
  EXPECT_EQ(printable("\xf0\x8f\xbf\xbf"), "????");
  EXPECT_EQ(printable("\xed\xa0\x80"), "???");  // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "????");
}

}  // namespace
}  // namespace baton::control
