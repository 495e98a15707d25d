#include "examples/reference_engine/answer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace baton::reference {
namespace {

// Pushes the bytes of `text` one by one; what came out at each, separated by '|'.
std::string pieces(const std::vector<std::string>& stops, const std::string& text) {
  const auto tokenizer = Tokenizer::bytes(272);
  AnswerText answer(*tokenizer, stops);
  std::string out;
  for (const char byte : text) {
    out += answer.push(static_cast<unsigned char>(byte)) + "|";
    if (answer.stopped()) return out + "stopped";
  }
  return out + answer.finish();
}

TEST(AnswerText, PassesTextOnAtOnce) { EXPECT_EQ(pieces({}, "abc"), "a|b|c|"); }

TEST(AnswerText, StopsBeforeAStopString) {
  EXPECT_EQ(pieces({"cd"}, "abcde"), "a|b|||stopped");
  EXPECT_EQ(pieces({"c"}, "abcde"), "a|b||stopped");
}

TEST(AnswerText, HoldsBackWhatMayBecomeAStopString) {
  EXPECT_EQ(pieces({"bcd"}, "abce"), "a|||bce|");
  EXPECT_EQ(pieces({"bcd"}, "abc"), "a|||bc");
  EXPECT_EQ(pieces({"aab"}, "aaab"), "||a||stopped");
}

TEST(AnswerText, TheFirstOfSeveralStopsCounts) {
  EXPECT_EQ(pieces({"xyz", "b"}, "abxyz"), "a||stopped");
}

TEST(AnswerText, HoldsBackUnfinishedCharacters) {
  EXPECT_EQ(pieces({}, "\xc3\xa9!"), "|\xc3\xa9|!|");
  EXPECT_EQ(pieces({}, "a\xc3"), "a||\xef\xbf\xbd");
}

AnswerStyle handed_off(TransferRole role, std::vector<HostPort> peer) {
  AnswerStyle style{.id = "cmpl-1", .model = "m", .own_node = "127.0.0.1:7"};
  style.transfer = TransferParams{.handoff = {HandoffId::random(), 3}, .role = role};
  style.transfer->peer = std::move(peer);
  style.transfer->salt = "salt";
  return style;
}

nlohmann::json baton_of(const AnswerStyle& style, const GenerationEnd& end) {
  return nlohmann::json::parse(whole_answer(style, "", {}, end))["kv_transfer_params"]["baton"];
}

TEST(Answer, SaysWhatBecameOfTheHandoff) {
  GenerationEnd end{.prompt_tokens_computed = 1};
  end.handoff = HandoffReport{.end = protocol::End::kCommitted,
                              .transport = "local",
                              .bytes = 4096,
                              .share_of_bound = 0.75};
  const auto style = handed_off(TransferRole::kDecode, {{"127.0.0.1", 1}});
  const auto baton = baton_of(style, end);
  EXPECT_EQ(baton["handoff"], style.transfer->handoff.id.to_string());
  EXPECT_EQ(baton["attempt"], 3);
  EXPECT_EQ(baton["bytes"], 4096);
  EXPECT_EQ(baton["transport"], "local");
  EXPECT_EQ(baton["prompt_tokens_computed"], 1);
  EXPECT_EQ(baton["share_of_bound"], 0.75);
  EXPECT_EQ(baton["end"], "committed");
  EXPECT_FALSE(baton.contains("why"));
  end.handoff =
      HandoffReport{.end = protocol::End::kRefused, .why = Status(Code::kRefused, "no room")};
  EXPECT_EQ(baton_of(style, end)["why"], "no room");
  EXPECT_TRUE(baton_of(style, end)["transport"].is_null());
}

TEST(Answer, APrefillWithoutAPeerSaysWhereToFetch) {
  const auto style = handed_off(TransferRole::kPrefill, {});
  const nlohmann::json expected{{"handoff", style.transfer->handoff.id.to_string()},
                                {"attempt", 3},
                                {"role", "decode"},
                                {"flow", "fetch"},
                                {"peer", {"127.0.0.1:7"}},
                                {"salt", "salt"}};
  EXPECT_EQ(baton_of(style, {}), expected);
}

}  // namespace
}  // namespace baton::reference
